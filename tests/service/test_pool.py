"""Threads for runs, one of which may never come back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from service.pool import Pool

PATIENCE = 10.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return a gate that is open in the end, so that no thread is left behind."""
    made = threading.Event()
    yield made
    made.set()


def test_calls_are_done_by_so_many_threads_at_once() -> None:
    """Two of two meet, and what waits is done when one of them is free."""
    pool, met = Pool(2, "p"), threading.Barrier(2, timeout=PATIENCE)
    calls = [pool.submit(met.wait) for _ in range(4)]
    assert sorted(call.result(PATIENCE) for call in calls) == [0, 0, 1, 1]
    pool.shutdown()


def test_an_error_is_the_callers() -> None:
    """The thread goes on."""
    pool = Pool(1, "p")
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(PATIENCE)
    assert pool.submit(divmod, 7, 2).result(PATIENCE) == (3, 1)
    pool.shutdown()


def test_a_call_that_was_cancelled_is_not_done(gate: threading.Event) -> None:
    """It waits behind another one and leaves the queue."""
    done: list[int] = []
    pool = Pool(1, "p")
    first = pool.submit(gate.wait, PATIENCE)
    second = pool.submit(done.append, 2)
    assert second.cancel()
    gate.set()
    assert first.result(PATIENCE)
    pool.shutdown()
    assert done == []


def test_the_end_waits_for_what_was_accepted(gate: threading.Event) -> None:
    """And nothing is accepted afterwards."""
    pool = Pool(1, "p")
    calls = [pool.submit(gate.wait, PATIENCE) for _ in range(3)]
    gate.set()
    pool.shutdown()
    assert all(call.done() for call in calls)
    with pytest.raises(RuntimeError):
        pool.submit(print)


def test_another_thread_for_one_that_does_not_come_back(gate: threading.Event) -> None:
    """What waits behind it is done, and the end does not wait for it."""
    pool = Pool(1, "p")
    lost = pool.submit(gate.wait, PATIENCE)
    behind = pool.submit(divmod, 7, 2)
    assert not behind.done()
    pool.give_one_up()
    assert behind.result(PATIENCE) == (3, 1)
    pool.shutdown()
    assert not lost.done()
    gate.set()
    assert lost.result(PATIENCE)


def test_a_pool_without_work_has_no_threads() -> None:
    """They are started as they are needed, no more than were asked for."""
    pool, before = Pool(2, "idle-pool"), threading.active_count()
    assert threading.active_count() == before
    for _ in range(5):
        pool.submit(int).result(PATIENCE)
    names = [t.name for t in threading.enumerate() if t.name.startswith("idle-pool")]
    assert len(names) == 2
    pool.shutdown()
