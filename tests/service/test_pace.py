"""How long a queue takes, by what was seen of it, and who is better off elsewhere."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.pace import LONGEST_ADVICE, SHORTEST_ADVICE, Pace, advice, estimated_wait, hopeless


@pytest.mark.parametrize(
    ("queued", "rows", "rate", "run", "wait"),
    [
        (100, 1, 101, 0.25, 1.25),
        (1, 9, 10, 0, 1),
        (0, 500, 1, 9, 0),
        (500, 1, 0, 9, 0),
    ],
)
def test_the_estimated_wait(queued: int, rows: int, rate: float, run: float, wait: float) -> None:
    """What waits and what comes at the pace seen, behind the run under way."""
    assert estimated_wait(queued, rows, rate=rate, run_seconds=run) == pytest.approx(wait)


def test_whom_it_is_not_worth_to_begin() -> None:
    """Both times are named; just in time is in time."""
    assert hopeless(1.0, 1.0) == ""
    assert "about 1.25 s, and 1.00 s are left" in hopeless(1.25, 1.0)
    assert "0.00 s are left" in hopeless(1, -3)


@pytest.mark.parametrize(
    ("queued", "rate", "seconds"),
    [(0, 100, 1), (100, 100, 1), (101, 100, 2), (950, 100, 10), (10**6, 1, 60), (5, 0, 1)],
)
def test_when_to_come_again(queued: int, rate: float, seconds: int) -> None:
    """When what waits now is answered, in whole seconds, and never never."""
    assert advice(queued, rate) == seconds


@given(st.integers(0, 10**9), st.floats(0, 1e12))
def test_the_advice_is_a_wait_that_a_caller_can_keep(queued: int, rate: float) -> None:
    """Whatever was seen."""
    assert SHORTEST_ADVICE <= advice(queued, rate) <= LONGEST_ADVICE


def test_a_queue_that_runs_dry_says_nothing_of_the_pace() -> None:
    """Few rows a second may be few callers."""
    pace = Pace()
    for second in range(5):
        pace.note(1, started=second, ended=second + 0.01, waiting=False)
    assert pace.rate == 0
    # The first end from which on there is always more to do begins the measurement.
    pace.note(8, started=9, ended=10, waiting=True)
    assert pace.rate == 0
    pace.note(8, started=10, ended=10.5, waiting=False)
    assert (pace.rate, pace.run_seconds) == (16, 0.5)
    pace.note(8, started=90, ended=99, waiting=False)
    assert pace.rate == 16


def test_what_was_seen_last_counts_most() -> None:
    """A model that has become slower is known to be within seconds; one odd run changes little."""
    pace = Pace()
    for tenth in range(100):
        pace.note(10, started=tenth / 10, ended=tenth / 10 + 0.1, waiting=True)
    assert pace.rate == pytest.approx(100)
    pace.note(10, started=10, ended=10.5, waiting=True)
    assert 70 < pace.rate < 100
    for second in range(11, 17):
        pace.note(10, started=second - 0.5, ended=second + 0.5, waiting=True)
    assert pace.rate == pytest.approx(10, rel=0.4)


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(1e-6, 100)), min_size=2, max_size=50))
def test_the_pace_is_between_the_slowest_and_the_fastest_run(runs: list[tuple[int, float]]) -> None:
    """As a mean is."""
    pace, now = Pace(), 0.0
    pace.note(1, started=0, ended=0, waiting=True)
    for rows, seconds in runs:
        pace.note(rows, started=now, ended=now + seconds, waiting=True)
        now += seconds
    rates = [rows / seconds for rows, seconds in runs]
    assert min(rates) * 0.999 <= pace.rate <= max(rates) * 1.001
    assert math.isfinite(pace.run_seconds)
