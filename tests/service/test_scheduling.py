"""What the queue decides, on plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scheduling import (
    BatchPolicy,
    bucket_of,
    buckets_up_to,
    fair_share,
    loop_rows,
    over_bound,
    recent_strikes,
    refusal,
    split_failed,
    start_at,
    take_batch,
    where_to_run,
)

NOW = 100.0


@dataclass(frozen=True, eq=False)
class Plain:
    """A job as the rules see it."""

    rows: int = 1
    key: str | None = "a"
    deadline: float = NOW + 1
    gone: bool = False


def job(
    rows: int = 1, key: str | None = "a", deadline: float = NOW + 1, *, gone: bool = False
) -> Plain:
    """Return a job."""
    return Plain(rows, key, deadline, gone)


def test_the_oldest_and_those_that_fit_with_it() -> None:
    """A job that does not fit stays, one behind it that does goes along; order is kept."""
    first, big, small, last = job(2), job(3), job(1), job(1)
    take = take_batch([first, big, small, last], limit=4, now=NOW)
    assert take == ([first, small, last], [], [big], 4)


def test_a_job_over_the_limit_runs_alone() -> None:
    """The oldest runs whatever its size, since nothing would ever make room for it."""
    big, small = job(9), job(1)
    take = take_batch([big, small], limit=4, now=NOW)
    assert take == ([big], [], [], 1)


def test_jobs_of_another_shape_stay() -> None:
    """One key a batch, that of the oldest job."""
    jobs = [job(key="a"), job(key="b"), job(key="a")]
    take = take_batch(jobs, limit=8, now=NOW)
    assert take == ([jobs[0], jobs[2]], [], [jobs[1]], 3)


def test_expired_and_gone_jobs_never_run() -> None:
    """A deadline that is reached has passed; a job whose caller has gone is dropped."""
    late, gone, alive = job(deadline=NOW), job(gone=True), job(deadline=NOW + 0.001)
    take = take_batch([late, gone, alive], limit=8, now=NOW)
    assert take == ([alive], [late], [], 3)


def test_nothing_waits() -> None:
    """An empty queue makes an empty batch, and so does one in which all have gone."""
    for queue in ([], [job(gone=True)]):
        take = take_batch(queue, limit=8, now=NOW)
        assert take == ([], [], [], len(queue))


def test_a_full_batch_is_looked_for_no_further() -> None:
    """A long queue costs what the batch costs, not what the queue holds."""
    jobs = [job() for _ in range(100)]
    assert take_batch(jobs, limit=3, now=NOW) == (jobs[:3], [], [], 3)


@pytest.mark.parametrize("together", [True, False])
def test_who_shares_no_run(*, together: bool) -> None:
    """A job without a key runs alone, and so does every job where rows depend on each other."""
    key = None if together else "a"
    jobs = [job(key=key), job(key=key)]
    take = take_batch(jobs, limit=8, now=NOW, together=together)
    assert take == (jobs[:1], [], [], 1)


KINDS = st.tuples(
    st.integers(0, 6),
    st.sampled_from(["a", "b", None]),
    st.sampled_from([NOW - 1, NOW, NOW + 1]),
    st.booleans(),
)


@given(kinds=st.lists(KINDS, max_size=12), limit=st.integers(1, 8), together=st.booleans())
def test_take_batch_keeps_its_promises(
    kinds: list[tuple[int, str | None, float, bool]], limit: int, *, together: bool
) -> None:
    """Nothing is lost, doubled or overtaken, and a batch is one that may run."""
    queue = [job(rows, key, deadline, gone=gone) for rows, key, deadline, gone in kinds]
    take = take_batch(queue, limit=limit, now=NOW, together=together)

    seen = [one for one in queue[: take.seen] if not one.gone]
    alive = [one for one in seen if one.deadline > NOW]
    assert take.expired == [one for one in seen if one.deadline <= NOW]
    for part in (take.batch, take.passed):
        assert part == [one for one in alive if one in part]
    assert len(take.batch) + len(take.passed) == len(alive)
    assert {*take.batch, *take.passed} == set(alive)

    assert take.batch[:1] == alive[:1]
    rows = sum(one.rows for one in take.batch)
    if len(take.batch) > 1:
        assert together
        assert {one.key for one in take.batch} in ({"a"}, {"b"})
        assert rows <= limit
    # Greedy: looking ends only at a batch that is full, or must stay as it is.
    if take.seen < len(queue):
        assert rows >= limit or not together or take.batch[0].key is None
    for one in take.passed:
        before = take.batch[: sum(alive.index(b) < alive.index(one) for b in take.batch)]
        assert one.key != take.batch[0].key or sum(b.rows for b in before) + one.rows > limit


@pytest.mark.parametrize(("idle", "share"), [(1, 8), (2, 5), (3, 3), (9, 1), (20, 1), (0, 8)])
def test_an_idle_thread_takes_its_share(idle: int, share: int) -> None:
    """Nine rows for some idle threads are shared out, rounded up, and at most a batch."""
    assert fair_share(9, idle, 8) == share


@pytest.mark.parametrize(
    ("rows", "size", "queued", "why"),
    [
        (9, 900, (0, 0), ""),
        (1, 10, (3, 90), ""),
        (0, 10, (3, 90), ""),
        (2, 10, (3, 90), "3 rows wait, at most 4 may"),
        (0, 0, (4, 0), "4 rows wait, at most 4 may"),
        (1, 11, (3, 90), "90 bytes wait, at most 100 may"),
        (1, 900, (1, 0), ""),
    ],
)
def test_who_is_let_in(rows: int, size: int, queued: tuple[int, int], why: str) -> None:
    """Up to the limits in rows and in bytes; a job without rows is a row, nothing is no queue."""
    policy = BatchPolicy(queue_rows=4, queue_bytes=100)
    found = refusal(policy, rows, size, queued_rows=queued[0], queued_bytes=queued[1])
    assert found == (f"Exceeds maximum queue size: {why}" if why else "")


TICK = BatchPolicy(run="tick", max_rows=8, tick_rows=4, tick_length=16)


@pytest.mark.parametrize(
    ("policy", "rows", "length", "moved", "place"),
    [
        (TICK, 4, 16, False, "tick"),
        (TICK, 0, 0, False, "tick"),
        (TICK, 5, 16, False, "threads"),
        (TICK, 4, 17, False, "threads"),
        (TICK, 1, 1, True, "threads"),
        (BatchPolicy(run="tick", tick_rows=4), 1, 10**6, False, "tick"),
        (BatchPolicy(run="tick", tick_rows=64, max_rows=8), 9, 1, False, "threads"),
        (BatchPolicy(run="tick"), 1, 1, False, "threads"),
        (BatchPolicy(run="tick"), 0, 1, False, "threads"),
        (BatchPolicy(tick_rows=4), 1, 1, False, "threads"),
    ],
)
def test_where_a_job_runs(
    policy: BatchPolicy, rows: int, length: int, *, moved: bool, place: str
) -> None:
    """The loop takes what was calibrated for it, and nothing of a model that was moved."""
    assert where_to_run(policy, rows, length, moved=moved) == place


def test_a_batch_in_the_loop_is_no_larger_than_any() -> None:
    """Both limits hold."""
    assert loop_rows(TICK) == 4
    assert loop_rows(BatchPolicy(max_rows=2, tick_rows=4)) == 2


@pytest.mark.parametrize(
    ("queued", "closing", "start"), [(1, False, 10.5), (8, False, 10), (1, True, 10)]
)
def test_how_long_the_oldest_waits(queued: int, start: float, *, closing: bool) -> None:
    """Its window, unless the batch is full or nobody else can come."""
    policy = BatchPolicy(max_rows=8, max_wait=0.5)
    assert start_at(policy, queued, 10, closing=closing) == start


@given(st.lists(st.integers(), min_size=2))
def test_halves_are_all_and_smaller(batch: Sequence[int]) -> None:
    """So looking for who is to blame ends, and finds everybody."""
    first, second = split_failed(batch)
    assert [*first, *second] == batch
    assert abs(len(first) - len(second)) <= 1


@given(st.integers(0, 100_000))
def test_buckets(length: int) -> None:
    """A bucket holds its length, is its own bucket, and adds at most half to a length over 8."""
    bucket = bucket_of(length)
    assert length <= bucket <= max(8, math.ceil(length * 1.5))
    assert bucket_of(bucket) == bucket
    assert bucket_of(length + 1) >= bucket


def test_nothing_is_a_bucket_of_its_own() -> None:
    """An empty row alone may be refused, and must not be saved by another's padding."""
    assert bucket_of(0) == 0
    assert [bucket_of(n) for n in (1, 8, 9, 13, 17, 25, 33)] == [8, 8, 12, 16, 24, 32, 48]


@pytest.mark.parametrize(
    ("processor", "clock", "over"),
    [(0.002, 0.002, False), (0.0021, 0.0021, True), (0.001, 0.5, False), (0.0, 0.51, True)],
)
def test_when_a_run_in_the_loop_is_over(processor: float, clock: float, *, over: bool) -> None:
    """Processor time decides; by the clock a busy machine may make it last very long."""
    assert over_bound(processor, clock, 0.002) is over


def test_runs_that_were_too_long_count_for_a_minute() -> None:
    """What a machine's bad moment has cost is forgotten."""
    assert recent_strikes([0.0, 30.0, 59.0], 60.0) == [0.0, 30.0, 59.0]
    assert recent_strikes([0.0, 30.0, 59.0], 90.5) == [59.0]


@given(st.integers(1, 5000))
def test_all_buckets_up_to_a_length(length: int) -> None:
    """They ascend to the length itself, and leave none out."""
    buckets = buckets_up_to(length)
    assert buckets == sorted(set(buckets))
    assert buckets[-1] == length
    assert {bucket_of(n) for n in range(1, length + 1)} >= set(buckets[:-1])
    assert len(buckets) == len({bucket_of(n) for n in range(1, length + 1)})
