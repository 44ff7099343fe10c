"""What the batcher does with a model that loses rows, and with jobs that have none."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
import pytest_asyncio

from service.batcher import Batcher, BatchPolicy, Model, RowsMismatch
from service.tensors import Tensor, Tensors
from tests.support.batching import ANY_WIDTH, HandStop, HandWatchdog


@dataclass(slots=True)
class Lossy:
    """A model that drops rows below 0, and whose first run waits until it may go on."""

    go_on: threading.Event = field(default_factory=threading.Event)
    runs: list[int] = field(default_factory=list)

    def __call__(self, inputs: Tensors, wanted: Sequence[str], stop: HandStop) -> dict[str, Tensor]:
        """Answer those rows that are not below 0."""
        self.runs.append(len(inputs["x"]))
        self.go_on.wait()
        x = inputs["x"]
        return dict.fromkeys(wanted, x[x[:, 0] >= 0])


@pytest.fixture
def model() -> Lossy:
    """Return a model whose first run waits."""
    return Lossy()


@pytest_asyncio.fixture
async def batcher(model: Lossy) -> AsyncIterator[Batcher]:
    """Return a batcher over the model that runs one batch of up to 4 rows at a time."""
    executor = ThreadPoolExecutor(1)
    policy = BatchPolicy(max_rows=4, concurrency=1)
    batcher = Batcher(Model(model, HandStop, ANY_WIDTH), policy, executor, HandWatchdog())
    yield batcher
    model.go_on.set()
    await batcher.aclose()
    executor.shutdown()


async def submit(batcher: Batcher, *rows: float, alone: bool = False) -> list[float]:
    """Return the numbers that come back for these numbers, one a row."""
    x = np.asarray(rows, np.float32)[:, None]
    ran = await batcher.submit(
        {"x": x}, ["y"], rows=len(rows), deadline=time.monotonic() + 60, alone=alone
    )
    return [float(number) for number in ran.outputs["y"][:, 0]]


async def test_lost_rows_fail_all_who_shared_the_run(batcher: Batcher, model: Lossy) -> None:
    """Nobody gets a neighbour's row; the model runs unbatched from then on."""
    first = asyncio.ensure_future(submit(batcher, 1))
    await asyncio.sleep(0)
    shared = [asyncio.ensure_future(submit(batcher, number)) for number in (2, -3, 4)]
    await asyncio.sleep(0)
    model.go_on.set()

    assert await first == [1]
    found = await asyncio.gather(*shared, return_exceptions=True)
    assert [type(one) for one in found] == [RowsMismatch] * 3
    assert model.runs == [1, 3]
    assert not batcher.batchable
    assert "shape [2, 1] for 3 rows" in batcher.broken

    again = await asyncio.gather(submit(batcher, 2, -3), submit(batcher, 4, 5, 6, 7, 8))
    assert list(again) == [[2], [4, 5, 6, 7, 8]]
    assert model.runs[2:] == [2, 5]


async def test_a_long_request_that_loses_rows_fails_too(batcher: Batcher, model: Lossy) -> None:
    """Each piece of a request is held against its own rows."""
    model.go_on.set()
    with pytest.raises(RowsMismatch, match=r"shape \[1, 1\] for 2 rows"):
        await submit(batcher, 1, 2, 3, 4, 5, -6)
    assert model.runs == [4, 2]


async def test_a_job_that_is_alone_shares_nothing(batcher: Batcher, model: Lossy) -> None:
    """It runs in one piece, beyond the largest batch and with whatever rows come back."""
    first = asyncio.ensure_future(submit(batcher, 1))
    await asyncio.sleep(0)
    queued = [
        asyncio.ensure_future(submit(batcher, 2)),
        asyncio.ensure_future(submit(batcher, 3, 4, 5, 6, -7, alone=True)),
        asyncio.ensure_future(submit(batcher, 8)),
        asyncio.ensure_future(submit(batcher, 9, alone=True)),
    ]
    await asyncio.sleep(0)
    model.go_on.set()
    assert await asyncio.gather(first, *queued) == [[1], [2], [3, 4, 5, 6], [8], [9]]
    assert model.runs == [1, 2, 5, 1]
    assert batcher.batchable
