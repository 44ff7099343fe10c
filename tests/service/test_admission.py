"""A proof in a process of its own: its limits, and what its end means."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from service.admission import End, Limits, Outcome, Prover, memory_for, refusal_of
from service.admit import order_of
from service.loader import LoadOptions, Report, open_proved
from service.repository import scan
from service.sealed import Sealed
from tests.support import graphs, models

GIB = 1 << 30


@pytest.mark.parametrize(
    ("end", "code", "text"),
    [
        (End(-9, late=True, step="it was proved"), "load_timeout", "within 30 s"),
        (End(-signal.SIGXCPU, late=False), "load_timeout", "its process started"),
        (End(-signal.SIGKILL, late=False), "load_memory", "admission_memory"),
        (End(-signal.SIGABRT, late=False, said="std::bad_alloc"), "load_memory", "more memory"),
        (End(-signal.SIGFPE, late=False), "load_crashed", "by SIGFPE"),
        (End(-signal.SIGABRT, late=False), "load_crashed", "by SIGABRT"),
        (End(1, late=False), "internal", "exit code 1"),
    ],
)
def test_what_an_end_means(end: End, code: str, text: str) -> None:
    """Each has a code of its own, and the text says what was being done."""
    found, reason = refusal_of(end, Limits(30))
    assert found == code
    assert text in reason
    assert end.step in reason


def test_memory_for_a_proof() -> None:
    """What was asked for, else a share that is never small; a GPU's driver has no limit."""
    assert memory_for(3 * GIB, cuda=False) == 3 * GIB
    assert memory_for(0, cuda=False) >= 2 * GIB
    assert memory_for(3 * GIB, cuda=True) == 0


async def proved(path: Path, limits: Limits, options: LoadOptions | None = None) -> Outcome:
    """Prove the only model at a path."""
    (found,) = scan(path)
    return await Prover().prove(order_of(found, options or LoadOptions(max_rows=2)), limits)


async def test_what_was_proved_is_what_is_opened(tmp_path: Path) -> None:
    """Another process has the report and the bytes, and needs nothing of the disk any more."""
    bundle = models.picture_bundle(tmp_path)
    (found,) = scan(tmp_path)
    outcome = await proved(tmp_path, Limits())
    assert outcome.descriptor is not None
    assert outcome.report["info"]["verification"]["status"] == "passed"
    for file in bundle.path.iterdir():
        file.write_bytes(b"overwritten")
    report = Report.from_json(outcome.report)
    loaded = open_proved(
        found, LoadOptions(max_rows=2), report, Sealed(report.files, outcome.descriptor)
    )
    inputs = loaded.pipeline.collate([loaded.pipeline.parse([[0, 200], [0, 90]])])
    assert loaded.engine.run(inputs, ["scores"])["scores"].argmax() == 1
    assert loaded.contract.labels == ["left", "right"]
    assert loaded.showcase is not None
    assert not loaded.showcase.invented
    assert loaded.info["digest"] == bundle.manifest.digest


async def test_weights_beside_the_model_are_part_of_it(tmp_path: Path) -> None:
    """They are handed over in memory; what lies on disk afterwards cannot change an answer."""
    graphs.write_external(tmp_path / "m" / "1" / "model.onnx", "deep/w.bin")
    weights = graphs.write_weights(tmp_path / "m" / "1" / "deep" / "w.bin")
    (found,) = scan(tmp_path)
    outcome = await proved(tmp_path, Limits())
    assert outcome.descriptor is not None
    weights.write_bytes(bytes(8))
    report = Report.from_json(outcome.report)
    loaded = open_proved(found, LoadOptions(), report, Sealed(report.files, outcome.descriptor))
    row = {"x": np.zeros((1, 2), np.float32)}
    assert loaded.engine.run(row, ["y"])["y"].tolist() == [[1, 2]]
    assert set(report.info["files"]) == {"model.onnx", "deep/w.bin"}


async def test_a_child_that_gets_no_order_ends(tmp_path: Path) -> None:
    """Nothing is left of it."""
    del tmp_path
    prover = Prover()
    await prover.discard()


async def test_a_child_that_is_killed_meanwhile(tmp_path: Path) -> None:
    """Its death is the outcome, not an error of who waits."""
    models.picture_bundle(tmp_path)
    (found,) = scan(tmp_path)
    prover = Prover()
    prover.kill()
    outcome = await prover.prove(order_of(found, LoadOptions()), Limits())
    assert (outcome.code, outcome.admitted) == ("load_memory", False)


async def test_advice_admits_what_it_has_found_wrong(tmp_path: Path) -> None:
    """With its code to be seen."""
    bundle = models.picture_bundle(tmp_path)
    models.resealed(bundle, labels=["right", "left"])
    assert (await proved(tmp_path, Limits())).code == "label_mismatch"
    outcome = await proved(tmp_path, Limits(), LoadOptions(verify="advisory"))
    assert outcome.admitted
    proof = outcome.report["info"]["verification"]
    assert (proof["status"], proof["code"]) == ("failed", "label_mismatch")
    assert outcome.descriptor is not None
    Sealed((), outcome.descriptor).close()
