"""Greedy batching: whatever has queued while the engine was busy runs together."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Literal

from service.errors import (
    DeadlineExceeded,
    EngineFailure,
    InvalidRequest,
    ModelNotReady,
    Overloaded,
    ServiceError,
)
from service.tensors import Tensor, Tensors, split, stack

RunEngine = Callable[[Tensors, Sequence[str]], dict[str, Tensor]]
Key = tuple[object, ...]
Outcome = dict[str, Tensor] | ServiceError


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """Limits of one model's queue.

    ``concurrency`` is how many batches may run at once; ``batchable`` says that rows of different
    jobs may share a run.  Without it every job runs alone, in one piece.

    With ``run`` "tick" a batch of at most ``tick_rows`` rows, none longer than ``tick_length``
    along an axis of free size, runs in the event loop.  ``max_wait`` is how many seconds a batch
    may wait for more rows, ``queue_bytes`` the most bytes of waiting inputs.
    """

    max_rows: int = 32
    queue_rows: int = 1024
    concurrency: int = 1
    batchable: bool = True
    run: Literal["tick", "threads"] = "threads"
    tick_rows: int = 0
    tick_length: int | None = None
    max_wait: float = 0.0
    queue_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds a job waited and its batch ran, and the rows of that batch."""

    queue: float
    infer: float
    batch_rows: int


@dataclass(frozen=True, slots=True)
class Ran:
    """The outputs of one job and how long they took."""

    outputs: dict[str, Tensor]
    timings: Timings


class RowsMismatch(EngineFailure):
    """An output has another number of rows than the inputs, so it cannot be cut up again."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One queued request; ``done`` is set exactly once, by whoever takes the job off the queue.

    A job that is ``alone`` shares no run and is not cut, whatever its rows.
    """

    inputs: Tensors
    wanted: tuple[str, ...]
    rows: int
    key: Key
    deadline: float
    queued_at: float
    done: asyncio.Future[Ran]
    alone: bool = False

    def cancel(self) -> None:
        """Let it go without an answer."""
        self.done.cancel()


@dataclass(frozen=True, slots=True)
class Take:
    """What the next run is made of, who has waited too long, and who stays."""

    batch: tuple[Job, ...]
    expired: tuple[Job, ...]
    rest: tuple[Job, ...]


def take_batch(queue: Iterable[Job], *, max_rows: int, idle: int, now: float) -> Take:
    """Choose the jobs of the next run: the oldest, and those behind it that fit with it.

    A worker takes a fair share of the rows, ``ceil(queued / idle)``, so that several idle workers
    do not wait for one that took everything.  Jobs whose key (trailing shapes, wanted outputs)
    differs from the oldest job's stay.  A job whose caller has gone is dropped.
    """
    waiting = [job for job in queue if not job.done.done()]
    expired = tuple(job for job in waiting if job.deadline <= now)
    alive = [job for job in waiting if job.deadline > now]
    share = math.ceil(sum(job.rows for job in alive) / max(1, idle))
    limit = min(max_rows, share)
    batch: list[Job] = []
    rest: list[Job] = []
    rows = 0
    for job in alive:
        if not batch or (job.key == batch[0].key and rows + job.rows <= limit):
            batch.append(job)
            rows += job.rows
        else:
            rest.append(job)
    return Take(tuple(batch), expired, tuple(rest))


class Batcher:
    """The queue of one model and the runs that empty it, on the engine's threads."""

    def __init__(
        self,
        run: RunEngine,
        policy: BatchPolicy,
        executor: Executor,
        *,
        on_batch: Callable[[int, int, float], None],
        on_queue: Callable[[int], None],
    ) -> None:
        """Keep the parts; ``on_batch`` gets jobs, rows, seconds; ``on_queue`` the queued rows."""
        self._run = run
        self._policy = policy
        self._executor = executor
        self._on_batch = on_batch
        self._on_queue = on_queue
        # Changed only by the methods below, on the event loop.
        self.broken = ""
        self._queue: deque[Job] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        """Show the counts that matter when something hangs."""
        return f"<Batcher {len(self._queue)} queued, {len(self._running)} running>"

    @property
    def batchable(self) -> bool:
        """Whether rows of different jobs may share a run; `broken` says why no longer."""
        return self._policy.batchable and not self.broken

    async def submit(
        self,
        inputs: Tensors,
        wanted: Sequence[str],
        *,
        rows: int,
        deadline: float,
        alone: bool = False,
    ) -> Ran:
        """Queue checked tensors and return their answer; with ``alone`` they run in one piece.

        Raises Overloaded if the queue is full, DeadlineExceeded if the answer is not there in
        time, InvalidRequest or EngineFailure if the model refuses or fails on this job.
        """
        self._admit(rows)
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        job = Job(
            inputs,
            tuple(wanted),
            rows,
            self._key(inputs, wanted, alone=alone),
            deadline,
            now,
            loop.create_future(),
            alone,
        )
        self._queue.append(job)
        self._dispatch()
        timer = loop.call_later(max(0.0, deadline - now), _expire, job)
        try:
            return await job.done
        finally:
            timer.cancel()

    def enqueue(
        self,
        inputs: Tensors,
        wanted: Sequence[str],
        *,
        rows: int,
        deadline: float,
        on_done: Callable[[Ran | ServiceError], None],
        alone: bool = False,
    ) -> Job:
        """Queue checked tensors as `submit` does; ``on_done`` hears the outcome, once."""
        self._admit(rows)
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        job = Job(
            inputs,
            tuple(wanted),
            rows,
            self._key(inputs, wanted, alone=alone),
            deadline,
            now,
            loop.create_future(),
            alone,
        )
        self._queue.append(job)
        timer = loop.call_later(max(0.0, deadline - now), _expire, job)

        def done(future: asyncio.Future[Ran]) -> None:
            timer.cancel()
            if not future.cancelled():
                error = future.exception()
                on_done(error if isinstance(error, ServiceError) else future.result())

        job.done.add_done_callback(done)
        self._dispatch()
        return job

    def _key(self, inputs: Tensors, wanted: Sequence[str], *, alone: bool) -> Key:
        """Return what jobs that may share a run have in common; no two jobs, if none may."""
        if alone or not self.batchable:
            return (object(),)
        shapes = tuple((name, value.shape[1:]) for name, value in sorted(inputs.items()))
        return (*shapes, *wanted)

    def _admit(self, rows: int) -> None:
        if self._closed:
            raise ModelNotReady("the model is being unloaded")
        # Jobs that were cancelled or have expired would hold their tensors until the next run.
        self._queue = deque(job for job in self._queue if not job.done.done())
        queued = self._queued_rows()
        # An empty queue takes any job, whatever its size: the body limit bounds it.
        if queued and queued + max(1, rows) > self._policy.queue_rows:
            raise Overloaded(
                f"Exceeds maximum queue size: {queued} rows wait, "
                f"at most {self._policy.queue_rows} may"
            )

    def _queued_rows(self) -> int:
        # A job without rows takes a place, too: the queue must stay bounded.
        return sum(max(1, job.rows) for job in self._queue if not job.done.done())

    def _dispatch(self) -> None:
        """Start runs while an engine thread is free and jobs wait."""
        policy = self._policy
        while self._queue and len(self._running) < policy.concurrency:
            take = take_batch(
                self._queue,
                max_rows=policy.max_rows,
                idle=policy.concurrency - len(self._running),
                now=time.monotonic(),
            )
            self._queue = deque(take.rest)
            for job in take.expired:
                _expire(job)
            if take.batch:
                task = asyncio.ensure_future(self._run_batch(take.batch, share=self.batchable))
                self._running.add(task)
                task.add_done_callback(self._ended)
        self._on_queue(self._queued_rows())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._dispatch()

    async def _run_batch(self, batch: tuple[Job, ...], *, share: bool) -> None:
        loop = asyncio.get_running_loop()
        asked = time.monotonic()
        try:
            results, started, ended = await loop.run_in_executor(
                self._executor, partial(self._timed, batch, share=share)
            )
        # Whatever happens, nobody may be left waiting: one surprise would stop the model for ever.
        except Exception as error:  # noqa: BLE001 - see above
            failure = EngineFailure("the model could not be run")
            failure.__cause__ = error
            results, started, ended = [failure] * len(batch), asked, time.monotonic()
        seconds = ended - started
        rows = sum(job.rows for job in batch)
        self.broken = next((str(r) for r in results if isinstance(r, RowsMismatch)), self.broken)
        for job, result in zip(batch, results, strict=True):
            if job.done.done():
                continue
            if isinstance(result, ServiceError):
                job.done.set_exception(result)
            else:
                job.done.set_result(Ran(result, Timings(started - job.queued_at, seconds, rows)))
        self._on_batch(len(batch), rows, seconds)

    def _timed(self, batch: Sequence[Job], *, share: bool) -> tuple[list[Outcome], float, float]:
        """Return the outcomes, and when the thread began and ended: it may have been busy."""
        started = time.monotonic()
        return self._outcomes(batch, share=share), started, time.monotonic()

    def _outcomes(self, batch: Sequence[Job], *, share: bool) -> list[Outcome]:
        """Return each job's outputs or its own error; a failing batch is run again by halves.

        One guilty job among n costs at most 2 ceil(log2(n)) + 1 runs, never a neighbour's answer.
        """
        try:
            return list(self._run_together(batch, share=share))
        except RowsMismatch as error:
            # The model itself is to blame, and halves would hide it.
            return [error] * len(batch)
        except (EngineFailure, InvalidRequest) as error:
            if len(batch) == 1:
                return [error]
            middle = len(batch) // 2
            halves = (batch[:middle], batch[middle:])
            return [result for half in halves for result in self._outcomes(half, share=share)]

    def _run_together(self, batch: Sequence[Job], *, share: bool) -> list[dict[str, Tensor]]:
        wanted = batch[0].wanted
        if not share or batch[0].alone:
            return [self._run(job.inputs, wanted) for job in batch]
        joined = stack([job.inputs for job in batch])
        rows = sum(job.rows for job in batch)
        size = self._policy.max_rows
        parts = []
        for start in range(0, max(1, rows), size):
            parts.append(self._run({n: v[start : start + size] for n, v in joined.items()}, wanted))
            _check_rows(parts[-1], min(size, rows - start))
        return split(stack(parts), [job.rows for job in batch])

    async def aclose(self) -> None:
        """Refuse new jobs, answer those that wait or run, and return when all are answered."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)


def _check_rows(outputs: Tensors, rows: int) -> None:
    for name, value in outputs.items():
        if not value.ndim or len(value) != rows:
            raise RowsMismatch(
                f"output '{name}' has shape {list(value.shape)} for {rows} rows; "
                "from now on the model runs one request at a time"
            )


def _expire(job: Job) -> None:
    if not job.done.done():
        job.done.set_exception(DeadlineExceeded("the deadline passed before the answer was there"))
