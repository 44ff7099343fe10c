"""Models made to harm: each is refused with a code of its own, or does no harm."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from service.admission import Limits, Outcome, Prover
from service.admit import order_of
from service.errors import ServiceError
from service.loader import LoadOptions, load_model
from service.repository import scan
from tests.support import models
from tests.support.hostile import KINDS, SURVIVED

# They end, or may fill, the process that opens them.
_DEADLY = {"dies_while_folded"}
_HERE = [name for name, kind in KINDS.items() if not kind.slow and name not in _DEADLY]
OPTIONS = LoadOptions(max_rows=2, max_bytes=1 << 30)


@pytest.fixture
def version(tmp_path: Path) -> Iterator[Path]:
    """Return the empty folder of a version."""
    folder = tmp_path / "r" / "m" / "2"
    folder.mkdir(parents=True)
    yield folder
    # A file of holes would be copied by whoever looks at what failed.
    (folder / "model.onnx").unlink(missing_ok=True)


def code_of(folder: Path) -> str:
    """Return how a load in this process ends."""
    (found,) = scan(folder.parents[1])
    try:
        load_model(found, OPTIONS, lambda _: None).engine.close()
    except ServiceError as error:
        return error.code
    return SURVIVED


@pytest.mark.parametrize("name", _HERE)
def test_a_kind_is_refused(version: Path, name: str) -> None:
    """With one of its codes, and whatever a model names outside its folder stays unread."""
    KINDS[name].write(version)
    assert code_of(version) in KINDS[name].codes


def proved(folder: Path, limits: Limits) -> Outcome:
    """Return how a proof in a child ends."""
    (found,) = scan(folder.parents[1])

    async def prove() -> Outcome:
        return await Prover().prove(order_of(found, OPTIONS), limits)

    return asyncio.run(prove())


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("dies_while_folded", Limits(60)),
        ("function_bomb_16", Limits(4)),
        ("bundle_asks_for_16_gb", Limits(60, 1 << 30)),
    ],
)
def test_a_child_takes_the_harm(version: Path, name: str, limits: Limits) -> None:
    """A crash, a load without end and a wish for memory are outcomes like any other."""
    KINDS[name].write(version)
    outcome = proved(version, limits)
    assert (outcome.code in KINDS[name].codes, outcome.admitted) == (True, False)
    assert outcome.reason


def test_a_model_does_not_choose_its_options(
    version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime can be told to take them from the file, such as where to write a profile."""
    assert os.environ["ORT_LOAD_CONFIG_FROM_MODEL"] == "0"
    model = onnx.load(str(models.write_doubler(version / "model.onnx")))
    config = {"session_options": {"enable_profiling": True}}
    model.metadata_props.add(key="ort_config", value=json.dumps(config))
    onnx.save(model, str(version / "model.onnx"))
    monkeypatch.chdir(version)
    assert code_of(version) == SURVIVED
    assert [file.name for file in version.iterdir()] == ["model.onnx"]


def test_the_zoo_is_large() -> None:
    """It has every kind that the plan of faults names, and more."""
    assert len(KINDS) >= 40
