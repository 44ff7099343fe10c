"""What a queue decides, as rules on plain values: who is let in, who runs together, where, when."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from service.tensors import Tensor

Place = Literal["tick", "threads"]
# Seconds after which a run in the event loop is ended: everything else in the loop waits meanwhile.
# Twice what calibration allows (2 ms): two busy threads of one core take up to 1.7 times as long.
LOOP_BOUND = 0.004
# Seconds after which a run that was told to end, and did not, is given up.
STUCK_AFTER = 2.0
# A run that uses no processor time may still hold the loop up, but a busy machine must not decide:
# by the clock it may last this many times the bound.
_PATIENCE = 250
# Seconds for which a run over the bound counts against its model.
_STRIKES_COUNT = 60.0
_SHORTEST_BUCKET = 8


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """Limits of one model's queue, and where its batches run.

    Attributes:
        max_rows: Most rows of one run; a job with more is cut.
        queue_rows: Most rows that may wait.
        queue_bytes: Most bytes of tensors that may wait.
        concurrency: How many batches may run on threads at once.
        batchable: Whether rows of different jobs may share a run; if not, every job runs alone,
            in one piece.
        run: "tick" makes a batch of what one turn of the event loop brought and runs it there;
            "threads" makes a batch of what queued while the engine's threads were busy.
        tick_rows: Most rows one run in the loop may have; jobs with more go to threads.
        tick_strikes: Runs in the loop over its bound, within a minute, that move a model to threads
            for good.
        tick_length: Longest variable axis one run in the loop may have, None for any.
        max_wait: Seconds that the oldest job may wait for company; 0 starts at once.
    """

    max_rows: int = 32
    queue_rows: int = 1024
    queue_bytes: int = 256 << 20
    concurrency: int = 1
    batchable: bool = True
    run: Place = "threads"
    tick_rows: int = 0
    tick_length: int | None = None
    tick_strikes: int = 3
    max_wait: float = 0.0


class Timings(NamedTuple):
    """Seconds a job waited and its batch ran, and the rows of that batch.

    ``queued_at`` is when it began to wait, in monotonic seconds.  A request through the pipeline
    has its seconds before and after, too.

    A tuple, as `Ran` is: one of each is made for every job, and a frozen dataclass costs thrice.
    """

    queue: float
    infer: float
    batch_rows: int
    queued_at: float = 0.0
    preprocess: float = 0.0
    postprocess: float = 0.0


class Ran(NamedTuple):
    """The outputs of one job and how long they took."""

    outputs: dict[str, Tensor]
    timings: Timings


class Waiting(Protocol):
    """What the rules look at in a job; one without a key shares no run."""

    @property
    def rows(self) -> int:
        """How many rows it has."""
        ...

    @property
    def key(self) -> Hashable | None:
        """What jobs that may share a run have in common."""
        ...

    @property
    def deadline(self) -> float:
        """When its answer is worth nothing any more."""
        ...

    @property
    def gone(self) -> bool:
        """Whether its caller has left, or has been told that it is too late."""
        ...


J = TypeVar("J", bound=Waiting)
T = TypeVar("T")


class Take(NamedTuple, Generic[J]):
    """What the next run is made of and who has waited too long, of the ``seen`` oldest jobs.

    ``passed`` are those of the ``seen`` that stay, in order; behind them nobody was looked at.
    """

    batch: list[J]
    expired: list[J]
    passed: list[J]
    seen: int


def refusal(
    policy: BatchPolicy, rows: int, size: int, *, queued_rows: int, queued_bytes: int
) -> str:
    """Return why a job of so many rows and bytes is not let in, or nothing if it is.

    A job without rows takes a place, too: the queue must stay bounded.  An empty queue takes any
    job, whatever its size: the body limit bounds it.
    """
    if queued_rows and queued_rows + (rows or 1) > policy.queue_rows:
        return (
            f"Exceeds maximum queue size: {queued_rows} rows wait, at most {policy.queue_rows} may"
        )
    if queued_bytes and queued_bytes + size > policy.queue_bytes:
        return (
            f"Exceeds maximum queue size: {queued_bytes} bytes wait, "
            f"at most {policy.queue_bytes} may"
        )
    return ""


def takes_too_much(rows: int, own_rows: int, *, queued_rows: int, room: float) -> bool:
    """Whether a caller with ``own_rows`` waiting may not add so many more: others need room, too.

    No caller may hold more than what is still free of ``room``.  So one alone has half of it at
    most, two a third each, and whoever comes finds as much free as each of them has.
    """
    return own_rows > 0 and own_rows + rows > room - queued_rows - rows


def where_to_run(policy: BatchPolicy, rows: int, length: int, *, moved: bool) -> Place:
    """Return where a job of so many rows, its variable axes up to ``length``, is to run.

    The loop takes only what was calibrated for it; a model that was ``moved`` never comes back.
    """
    if policy.run == "threads" or moved or (rows or 1) > loop_rows(policy):
        return "threads"
    if policy.tick_length is not None and length > policy.tick_length:
        return "threads"
    return "tick"


def loop_rows(policy: BatchPolicy) -> int:
    """Return the most rows that one run in the loop may have."""
    return min(policy.max_rows, policy.tick_rows)


def fair_share(queued: int, idle: int, max_rows: int) -> int:
    """Return the most rows that one of ``idle`` threads takes of those queued.

    Several idle threads do not wait for one that took everything.
    """
    return min(max_rows, math.ceil(queued / max(1, idle)))


def start_at(policy: BatchPolicy, queued: int, oldest: float, *, closing: bool) -> float:
    """Return when the oldest job, queued at ``oldest``, may start: a full batch need not wait."""
    if closing or queued >= policy.max_rows:
        return oldest
    return oldest + policy.max_wait


def take_batch(queue: Iterable[J], *, limit: int, now: float, together: bool = True) -> Take[J]:
    """Choose the jobs of the next run: the oldest, and those behind it that fit with it.

    The batch has at most ``limit`` rows, unless the oldest job alone has more.  Jobs whose key
    differs from the oldest job's stay, and so does everybody unless jobs may run ``together``.  A
    job that is gone is dropped.
    """
    batch: list[J] = []
    expired: list[J] = []
    passed: list[J] = []
    rows = seen = 0
    for job in queue:
        if batch and (rows >= limit or not together or batch[0].key is None):
            break
        seen += 1
        if job.gone:
            continue
        if job.deadline <= now:
            expired.append(job)
        elif not batch or (job.key == batch[0].key and rows + job.rows <= limit):
            batch.append(job)
            rows += job.rows
        else:
            passed.append(job)
    return Take(batch, expired, passed, seen)


def split_failed(batch: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Return the halves in which a failed batch of two and more jobs runs again.

    One guilty job among n costs at most 2 ceil(log2(n)) + 1 runs, never a neighbour's answer.
    """
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]


def bucket_of(length: int) -> int:
    """Return the bucket of a length: 8, 12, 16, 24, 32, 48 and on; nothing is a bucket, too.

    From the shortest bucket on padding adds at most a half to a length.
    """
    if not length:
        return 0
    bucket = _SHORTEST_BUCKET
    while bucket < length:
        if bucket * 3 // 2 >= length:
            return bucket * 3 // 2
        bucket *= 2
    return bucket


def buckets_up_to(length: int) -> list[int]:
    """Return every bucket below a length, and at the end the length itself."""
    buckets, one = [], 1
    while (bucket := bucket_of(one)) < length:
        buckets.append(bucket)
        one = bucket + 1
    return [*buckets, length]


def recent_strikes(strikes: Iterable[float], now: float) -> list[float]:
    """Return those of the times at which a run was too long for the loop that still count."""
    return [strike for strike in strikes if now - strike <= _STRIKES_COUNT]


def over_bound(processor: float, clock: float, bound: float) -> bool:
    """Whether a run in the loop, after these seconds of processor time and by the clock, must end.

    Processor time decides, so that a run on a busy machine is not held to be a long one.
    """
    return processor > bound or clock > _PATIENCE * bound
