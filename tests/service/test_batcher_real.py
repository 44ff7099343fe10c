"""The scheduler over ONNX Runtime: runs that are ended, and padding that changes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from service.batcher import Batcher, BatchPolicy, Model
from service.engine import EngineOptions, OrtEngine, Stop
from service.errors import DeadlineExceeded, EngineFailure
from service.padding import Layout, layout_of
from service.tensors import Tensor, Tensors
from service.watchdog import Watchdog
from tests.support import graphs, models
from tests.support.batching import HandWatchdog
from tests.support.runtime import HandExecutor, settle

CPU = EngineOptions(("cpu",))
X = {"x": np.ones((1, 2), np.float32)}
TICK = BatchPolicy(run="tick", tick_rows=4, tick_strikes=1)


@pytest.fixture
def threads() -> Iterator[Executor]:
    """Return one thread."""
    executor = ThreadPoolExecutor(1)
    yield executor
    executor.shutdown()


def test_a_stop_ends_every_run(tmp_path: Path) -> None:
    """One that was not used changes nothing; once used, a run ends at its beginning."""
    engine = OrtEngine(str(models.write_doubler(tmp_path / "m.onnx")), CPU)
    stop = Stop()
    assert engine.run(X, ["y"], stop)["y"].tolist() == [[2, 2]]
    stop.stop()
    assert stop.stopped
    with pytest.raises(EngineFailure):
        engine.run(X, ["y"], stop)


async def test_an_endless_run_leaves_the_loop_and_then_ends(
    tmp_path: Path, threads: Executor
) -> None:
    """The watchdog frees the loop, the deadline frees the thread, and the model can close."""
    engine = OrtEngine(str(graphs.write_endless(tmp_path / "m.onnx")), CPU)
    watchdog = Watchdog()
    batcher = Batcher(Model(engine.run, Stop, Layout()), TICK, threads, watchdog)
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(X, ["y"], rows=1, deadline=time.monotonic() + 0.3)
    assert batcher.moved
    await batcher.aclose()
    watchdog.close()


async def test_a_caller_that_leaves_ends_its_endless_run(tmp_path: Path, threads: Executor) -> None:
    """Nothing else would: the deadline is far away."""
    engine = OrtEngine(str(graphs.write_endless(tmp_path / "m.onnx")), CPU)
    batcher = Batcher(Model(engine.run, Stop, Layout()), BatchPolicy(), threads, HandWatchdog())
    begun = asyncio.create_task(
        batcher.submit(X, ["y"], rows=1, deadline=time.monotonic() + 10_000)
    )
    await settle()
    begun.cancel()
    await batcher.aclose()
    assert begun.cancelled()


@pytest.mark.parametrize("kind", ["series", "text"])
async def test_padding_changes_no_answer(tmp_path: Path, kind: str) -> None:
    """Rows of several lengths share a run, and each is answered as if it were alone."""
    make = models.series_bundle if kind == "series" else models.text_bundle
    bundle = make(tmp_path)
    engine = OrtEngine(str(bundle.path / "model.onnx"), CPU)
    layout = layout_of(bundle.manifest)
    assert layout.padding is not None
    runs: list[int] = []

    def run(inputs: Tensors, wanted: Sequence[str], stop: Stop) -> dict[str, Tensor]:
        runs.append(len(next(iter(inputs.values()))))
        return engine.run(inputs, wanted, stop)

    batcher = Batcher(Model(run, Stop, layout), TICK, HandExecutor(), HandWatchdog())
    asked = [request(kind, length) for length in (3, 7, 1, 5)]
    name = engine.outputs[0].name
    deadline = time.monotonic() + 60
    answers = await asyncio.gather(
        *(batcher.submit(inputs, [name], rows=1, deadline=deadline) for inputs in asked)
    )
    assert runs == [4]
    for inputs, ran in zip(asked, answers, strict=True):
        alone = engine.run(inputs, [name])[name]
        np.testing.assert_allclose(ran.outputs[name], alone, rtol=1e-6)


def request(kind: str, length: int) -> dict[str, Tensor]:
    """Return one row of a length."""
    if kind == "text":
        return {"tokens": np.arange(1, length + 1, dtype=np.int64)[None]}
    values = np.arange(2 * length, dtype=np.float32).reshape(1, length, 2)
    return {"values": values, "lengths": np.asarray([length], np.int64)}
