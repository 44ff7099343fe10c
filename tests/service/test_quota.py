"""How often, and how many at once, a key may ask: on one clock, for all workers together."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import QuotaExceeded
from service.quota import SLOTS, Ledger, Quota, forget_worker, make_memory, paced
from tests.support.access import Clock


@pytest.mark.parametrize("rate", [0.25, 1, 10, 2000])
def test_one_seconds_worth_at_once_and_the_mean_afterwards(rate: float) -> None:
    """Who has waited long has saved up no more than that."""
    due, now, let_in = 0.0, 1e6, 0
    while True:
        due, wait = paced(due, now, rate)
        if wait:
            break
        let_in += 1
    assert let_in == max(1, int(rate))
    # It may come when the wait is over, and again after the time of one.
    due, wait = paced(due, now + wait, rate)
    assert wait == 0
    assert paced(due, now + 1 / rate, rate)[1] == pytest.approx(1 / rate, abs=1e-5)


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 3), max_size=60))
def test_no_window_has_more_than_the_rate_and_what_is_saved_up(
    rate: float, gaps: list[float]
) -> None:
    """Whenever requests come."""
    due, now, times = 0.0, 100.0, []
    for gap in gaps:
        now += gap
        due, wait = paced(due, now, rate)
        if not wait:
            times.append(now)
    for first in range(len(times)):
        for last in range(first, len(times)):
            most = (times[last] - times[first]) * rate + max(1, rate)
            assert last - first + 1 <= most + 1e-3


def test_the_wait_is_told_in_whole_seconds() -> None:
    """And the key by its name."""
    clock = Clock()
    ledger = Ledger(make_memory(1), clock=clock)
    quota = Quota(rate=0.25)
    ledger.claim("slow", quota)
    clock.now += 0.5
    with pytest.raises(
        QuotaExceeded, match=r"key 'slow': at most 0\.25 requests a second"
    ) as found:
        ledger.claim("slow", quota)
    assert found.value.retry_after == 4
    ledger.claim("other", quota)
    clock.now += 3.5
    ledger.claim("slow", quota)


def test_workers_count_together() -> None:
    """What one has let in counts for the other, be it pace or number."""
    memory, clock = make_memory(2), Clock()
    one, two = (Ledger(memory, number, clock=clock) for number in (1, 2))
    quota = Quota(rate=2, concurrency=3)
    first, second = one.claim("key", quota), two.claim("key", quota)
    for ledger in (one, two):
        with pytest.raises(QuotaExceeded, match="2 requests a second"):
            ledger.claim("key", quota)
    clock.now += 1
    third = two.claim("key", quota)
    for ledger in (one, two):
        with pytest.raises(QuotaExceeded, match="3 requests under way, at most 3 may"):
            ledger.claim("key", quota)
    first.release()
    one.claim("key", quota).release()
    second.release()
    third.release()


def test_what_a_dead_worker_had_under_way_is_taken_back() -> None:
    """Its requests will never be released, and no others are touched."""
    memory = make_memory(2)
    one, two = Ledger(memory, 1), Ledger(memory, 2)
    quota = Quota(concurrency=2)
    one.claim("key", quota)
    two.claim("key", quota)
    with pytest.raises(QuotaExceeded):
        two.claim("key", quota)
    forget_worker(memory, 1)
    two.claim("key", quota)
    with pytest.raises(QuotaExceeded):
        two.claim("key", quota)
    os.close(memory)


def test_more_names_than_there_is_room_for() -> None:
    """They share counts, and nothing else happens."""
    ledger = Ledger(make_memory(1))
    for number in range(SLOTS + 10):
        ledger.claim(f"key-{number}", Quota(rate=1000))
    again = Ledger(make_memory(1))
    claims = [again.claim(f"key-{number}", Quota(concurrency=1)) for number in range(200)]
    assert len(claims) == 200
