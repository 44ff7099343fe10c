"""How far two engines are from each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundle import GOLDEN_FILE, Bundle, read_bundle
from service.engine import EngineOptions, OrtEngine
from service.golden import load
from service.likeness import Likeness, compare, distances, labels_changed
from service.pipeline import make_pipeline
from service.tensors import Tensor, Tensors
from tests.support import models
from tests.support.runtime import FakeEngine

INF = float("inf")
NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], (0.0, 0.0)),
        ([1.0, 2.5], [1.0, 2.0], (0.5, 0.25)),
        ([0.5], [0.0], (0.5, 0.0)),
        ([NAN, INF], [NAN, INF], (0.0, 0.0)),
        ([NAN], [1.0], (INF, INF)),
        ([1.0], [NAN], (INF, INF)),
        ([INF], [-INF], (INF, 0.0)),
        ([], [], (0.0, 0.0)),
        ([1.0], [1.0, 2.0], (INF, INF)),
    ],
)
def test_distances(one: list[float], other: list[float], expected: tuple[float, float]) -> None:
    """Equal is equal, for what is no number too; relative is to the second."""
    assert distances(np.asarray(one, np.float32), np.asarray(other, np.float32)) == expected


def test_distances_of_whole_numbers_and_texts() -> None:
    """They are equal or not."""
    assert distances(np.asarray(1.5), np.asarray(1.0)) == (0.5, 0.5)
    assert distances(np.asarray([1, 2]), np.asarray([1, 2])) == (0.0, 0.0)
    assert distances(np.asarray([1, 2]), np.asarray([1, 3])) == (INF, INF)
    assert distances(np.asarray(["a"], object), np.asarray(["a"], object)) == (0.0, 0.0)


def test_labels() -> None:
    """The largest score is what counts."""
    one = {"scores": np.asarray([[0.1, 0.9], [0.6, 0.4], [0.2, 0.8]])}
    other = {"scores": np.asarray([[0.4, 0.6], [0.4, 0.6], [0.3, 0.7]])}
    assert labels_changed(one, other, "scores", 3) == 1


@pytest.mark.parametrize(
    ("build", "classifier"), [(models.text_bundle, True), (models.series_bundle, False)]
)
def test_a_bundle_on_two_engines(
    tmp_path: Path, build: Callable[[Path], Bundle], *, classifier: bool
) -> None:
    """The same engine twice is equal; one that turns its answers round is seen."""
    bundle = read_bundle(build(tmp_path).path)
    contract, pipeline = bundle.manifest, make_pipeline(bundle.manifest)
    golden = load(bundle.read(GOLDEN_FILE))
    engine = OrtEngine(str(bundle.path / "model.onnx"), EngineOptions(("cpu",)))
    same = compare(contract, golden, pipeline, (engine, engine))
    assert same == Likeness(len(golden), 0.0, 0.0, 0 if classifier else None)

    def turned(inputs: Tensors) -> dict[str, Tensor]:
        names = [output.name for output in contract.outputs]
        return {name: -value for name, value in engine.run(inputs, names).items()}

    other = FakeEngine(engine.inputs, engine.outputs, turned, provider="cuda")
    seen = compare(contract, golden, pipeline, (other, engine))
    assert seen.max_abs > 0
    assert seen.max_rel == 2.0
    assert seen.labels_changed == (len(golden) if classifier else None)
    assert seen.as_json()["vectors"] == len(golden)
    engine.close()
