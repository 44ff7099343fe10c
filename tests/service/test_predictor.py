"""The one road of a request: what it answers, what it refuses, and what is counted of it."""

from __future__ import annotations

import asyncio
import time
from collections import UserDict, UserList
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from service.batcher import BatchPolicy
from service.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ModelNotReady,
    TooLarge,
)
from service.loader import LoadOptions
from service.predictor import Answered, Predictor
from service.registry import Readiness, Registry
from service.repository import scan
from service.tensors import Tensor
from tests.support import models
from tests.support.runtime import HandExecutor, Request, Witness, settle

ALL_STAGES = frozenset({"preprocess", "queue", "infer", "postprocess", "total"})
PAIR = {name: np.asarray([[5, 1], [7, 2]], np.int32) for name in "ab"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with a model of each kind and one that cannot load."""
    root = tmp_path_factory.mktemp("repository")
    models.picture_bundle(root)
    models.series_bundle(root)
    models.text_bundle(root)
    models.write_sum_and_difference(root / "pair.onnx")
    models.write_embedding(root / "embedding.onnx")
    (root / "broken.onnx").write_bytes(b"no model")
    return root


class Bench:
    """A predictor over real models; raw inputs are read by hand where a test asks for it."""

    def __init__(self, repository: Path, witness: Witness | None = None) -> None:
        """Build the parts."""
        self.witness = witness or Witness()
        self.runs = ThreadPoolExecutor(1)
        self.loads = HandExecutor()
        self.registry = Registry(
            scan(repository),
            options=LoadOptions(verify="off"),
            policy=BatchPolicy(),
            readiness=Readiness(),
            executor=self.runs,
            loads=self.loads,
            observer=self.witness,
        )
        self.predictor = Predictor(self.registry, self.runs, self.witness, max_instances=100)

    async def open(self) -> None:
        """Load everything."""
        await self.registry.open()
        await settle()
        await self.loads.step(len(self.loads.waiting))

    async def aclose(self) -> None:
        """Close everything, which needs all leases to have been given back."""
        await self.registry.aclose()
        self.runs.shutdown()

    async def predict(self, name: str, *instances: object) -> list[object]:
        """Return the predictions as a caller reads them."""
        return read(await self.predictor.predict(name, None, instances, deadline=later()))

    @property
    def last(self) -> Request:
        """What was last counted."""
        return self.witness.requests[-1]


@pytest.fixture
async def bench(repository: Path) -> AsyncIterator[Bench]:
    """Return an opened bench, and see that it can be closed afterwards."""
    one = Bench(repository)
    await one.open()
    yield one
    await asyncio.wait_for(one.aclose(), 20)


def later() -> float:
    """Return a deadline that does not matter."""
    return time.monotonic() + 60


def read(answered: Answered) -> list[object]:
    """Return the predictions as JSON has them."""
    text = orjson.dumps(answered.predictions, option=orjson.OPT_SERIALIZE_NUMPY)
    return list(orjson.loads(text))


async def test_a_request_of_one_call_needs_no_task_of_its_own(bench: Bench) -> None:
    """Only what is cut into several calls is run side by side."""
    made = 0

    def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        nonlocal made
        made += 1
        return asyncio.Task(work, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(factory)
    assert len(await bench.predict("texts", "a", "b")) == 2
    assert made == 0
    assert len(await bench.predict("texts", *["a"] * 40)) == 40
    assert made == 2


async def test_infer_returns_all_outputs_in_the_model_s_order(bench: Bench) -> None:
    """Without a wish everything comes, with its rows and its timings."""
    found = await bench.predictor.infer("pair", None, PAIR, wanted=None, deadline=later())
    assert (found.model, found.version, found.rows) == ("pair", 1, 2)
    assert list(found.outputs) == ["sum", "difference"]
    assert found.outputs["sum"].tolist() == [[10, 2], [14, 4]]
    assert found.timings.batch_rows == 2
    assert bench.last == Request("pair", "success", 2, ALL_STAGES - {"preprocess", "postprocess"})


async def test_infer_returns_what_is_wanted_once(bench: Bench) -> None:
    """Wishes may be doubled and in any order; the answer is in the model's."""
    for wanted in (["difference"], ["difference", "difference"]):
        found = await bench.predictor.infer("pair", 1, PAIR, wanted=wanted, deadline=later())
        assert list(found.outputs) == ["difference"]
    both = await bench.predictor.infer(
        "pair", 1, PAIR, wanted=["difference", "sum"], deadline=later()
    )
    assert list(both.outputs) == ["sum", "difference"]


async def test_infer_refuses_what_does_not_fit(bench: Bench) -> None:
    """The wrong output and the wrong input are named beside the right ones, and counted."""
    with pytest.raises(InvalidRequest, match=r"output 'z'.*'sum', 'difference'"):
        await bench.predictor.infer("pair", None, PAIR, wanted=["z"], deadline=later())
    with pytest.raises(InvalidRequest, match="input 'b': missing"):
        await bench.predictor.infer("pair", None, {"a": PAIR["a"]}, wanted=None, deadline=later())
    assert bench.last == Request("pair", "invalid_request", 0, frozenset({"total"}))


async def test_models_that_cannot_answer(bench: Bench) -> None:
    """Unknown and failed models are told, and counted by nobody: they have no rate."""
    with pytest.raises(ModelNotFound):
        await bench.predict("nobody", 1)
    with pytest.raises(ModelNotReady, match="FAILED"):
        await bench.predict("broken", 1)
    assert bench.witness.requests == []


async def test_predict_answers_each_instance_in_order(bench: Bench) -> None:
    """Series of different lengths share a call, and each is answered as if it were alone."""
    series = [[[1, 2], [3, 4]], [[1, 1]], [[2, 0], [0, 0], [0, 1]]]
    assert await bench.predict("series", *series) == [[5], [2], [1]]
    assert bench.last == Request("series", "success", 3, ALL_STAGES)


async def test_a_long_request_is_cut(bench: Bench) -> None:
    """More instances than one call takes are several jobs, and the answer is whole."""
    numbers = list(range(70))
    answers = await bench.predict("series", *([[number, 0]] for number in numbers))
    assert answers == [[number] for number in numbers]
    assert bench.last.rows == 70
    assert sum(report.jobs for report in bench.witness.batches) == 3
    assert sum(report.rows for report in bench.witness.batches) == 70


async def test_a_picture_as_the_whole_body(bench: Bench) -> None:
    """A raw input is one instance."""
    found = await bench.predictor.predict_raw(
        "pictures", 1, models.png([[0, 255], [0, 255]]), "image/png", deadline=later()
    )
    (answer,) = found.predictions
    assert isinstance(answer, dict)
    assert answer["label"] == "right"
    with pytest.raises(InvalidRequest, match="picture"):
        await bench.predictor.predict_raw("pictures", 1, b"x", "image/png", deadline=later())
    assert bench.last.outcome == "invalid_request"


async def test_the_instance_that_is_wrong_is_named(bench: Bench) -> None:
    """By its place in the request, whether it cannot be read or does not fit."""
    with pytest.raises(InvalidRequest, match=r"^instances\[1\]: text: expected a string"):
        await bench.predict("texts", "one", 2)
    good = {"a": [1, 2], "b": [3, 4]}
    with pytest.raises(InvalidRequest, match=r"^instances\[2\]: input 'a'"):
        await bench.predict("pair", good, good, {**good, "a": [1, 2, 3]})


async def test_too_many_instances(bench: Bench) -> None:
    """A request is bounded, and an empty one has no answer; the model counts both."""
    with pytest.raises(TooLarge, match="101, at most 100"):
        await bench.predict("texts", *["x"] * 101)
    assert bench.last.outcome == "too_large"
    with pytest.raises(InvalidRequest, match="empty"):
        await bench.predict("texts")
    assert bench.last.outcome == "invalid_request"


async def test_one_refused_instance_is_the_request_s_error(bench: Bench) -> None:
    """Calls of one request end together: the caller gets the reason, and no group of them."""
    with pytest.raises(InvalidRequest, match="refuses these input values"):
        await bench.predict("embedding", 0, 9, 1)
    assert bench.last.outcome == "invalid_request"
    assert await bench.predict("embedding", 0, 1) == [[0, 1], [2, 3]]


async def test_a_deadline_that_has_passed(bench: Bench) -> None:
    """It is told and counted as what it is."""
    with pytest.raises(DeadlineExceeded):
        await bench.predictor.infer("pair", None, PAIR, wanted=None, deadline=time.monotonic())
    assert bench.last.outcome == "deadline_exceeded"


async def test_a_deadline_that_passes_while_inputs_wait_to_be_read(repository: Path) -> None:
    """The caller hears of it in time, and its input is never read."""
    bench = Bench(repository)
    inputs = HandExecutor()
    bench.predictor = Predictor(bench.registry, inputs, bench.witness, max_instances=9)
    await bench.open()
    with pytest.raises(DeadlineExceeded, match="read"):
        await bench.predictor.predict("texts", None, ["x"], deadline=time.monotonic() + 0.01)
    assert bench.last == Request(
        "texts", "deadline_exceeded", 0, frozenset({"preprocess", "total"})
    )
    (work,) = inputs.waiting
    assert work.future.cancelled()
    await asyncio.wait_for(bench.aclose(), 20)


async def test_a_caller_that_goes(repository: Path) -> None:
    """The request is counted as cancelled, and its lease does not hold up the end."""
    bench = Bench(repository)
    inputs = HandExecutor()
    bench.predictor = Predictor(bench.registry, inputs, bench.witness, max_instances=9)
    await bench.open()
    asking = asyncio.create_task(bench.predict("texts", "one"))
    await settle()
    asking.cancel()
    await settle()
    assert asking.cancelled()
    assert bench.last.outcome == "cancelled"
    await inputs.step()
    await asyncio.wait_for(bench.aclose(), 20)


class Clumsy(UserDict[str, Tensor]):
    """Inputs that break as soon as they are looked at."""

    def __iter__(self) -> Iterator[str]:
        """Raise what nobody foresaw."""
        raise ZeroDivisionError


class Unlisted(UserList[object]):
    """Instances that do."""

    def __iter__(self) -> Iterator[object]:
        """Raise what nobody foresaw."""
        raise ZeroDivisionError


async def test_a_surprise(bench: Bench) -> None:
    """An error of ours is counted as what it is, not as the caller's leaving."""
    with pytest.raises(ZeroDivisionError):
        await bench.predictor.infer("pair", None, Clumsy(PAIR), wanted=None, deadline=later())
    assert bench.last.outcome == "internal"
    with pytest.raises(ZeroDivisionError):
        await bench.predictor.predict("series", None, Unlisted([[1]]), deadline=later())
    assert bench.last.outcome == "internal"
