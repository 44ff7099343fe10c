"""Which windows count, and what is made of them."""

from __future__ import annotations

import math

import pytest

from benchmarks.cases import Case
from benchmarks.measure import unevenness
from benchmarks.summary import capacity, counted, idle_cpu, summarise
from tests.benchmarks.windows import CASE, window


def test_noisy_windows_are_left_out_when_two_quiet_ones_remain() -> None:
    """A disturbed window does not move the median of the others."""
    windows = [window(100), window(10, stolen=0.2), window(104)]
    (row,) = summarise(windows, {})
    assert (row.rate, row.low, row.high) == (102, 100, 104)
    assert (row.quiet, row.windows) == (2, 3)


def test_all_windows_count_when_fewer_than_two_are_quiet() -> None:
    """One lucky window is not taken for the truth."""
    windows = [window(100), window(10, foreign=0.2), window(20, foreign=0.2)]
    assert counted(windows) == windows
    (row,) = summarise(windows, {})
    assert (row.rate, row.quiet) == (20, 1)


def test_foreign_and_stolen_time_add_up_to_noise() -> None:
    """Each alone may be small."""
    assert not window(foreign=0.03, stolen=0.02).noisy
    assert window(foreign=0.03, stolen=0.03).noisy


def test_the_share_of_the_limit_counts_rows() -> None:
    """32 rows a request at 10 requests/s are 320 rows/s."""
    (row,) = summarise([window(10, case=Case("cnn", "json", 4, 32))], {"cnn": 1280})
    assert row.rows_rate == 320
    assert row.share == pytest.approx(0.25)


def test_without_a_limit_there_is_no_share() -> None:
    """It is not taken for zero."""
    (row,) = summarise([window()], {})
    assert math.isnan(row.share)


def test_errors_of_all_windows_are_added_up_even_of_those_left_out() -> None:
    """No refusal is lost with a noisy window."""
    windows = [
        window(errors={"503": 2}),
        window(errors={"503": 1, "broken": 4}, stolen=1),
        window(),
    ]
    (row,) = summarise(windows, {})
    assert row.errors == {"503": 3, "broken": 4}


def test_servers_of_a_case_stand_together_in_the_order_of_the_cases() -> None:
    """However the windows were interleaved."""
    other = Case("rnn", "json", 8)
    windows = [
        window(server="a"),
        window(server="a", case=other),
        window(server="b", case=other),
        window(server="b"),
    ]
    rows = summarise(windows, {})
    expected = [("a", CASE), ("b", CASE), ("a", other), ("b", other)]
    assert [(row.server, row.case) for row in rows] == expected


def test_capacity_is_the_best_closed_loop_of_the_same_work() -> None:
    """Other servers, other rows and open loops do not count."""
    wanted = Case("cnn", "json", 256, factor=2.0)
    windows = [
        window(50),
        window(80, case=Case("cnn", "json", 32)),
        window(500, case=Case("cnn", "binary", 32)),
        window(600, case=Case("cnn", "json", 32, 32)),
        window(700, server="theirs"),
        window(900, case=wanted),
    ]
    assert capacity(windows, "ours", wanted) == 80


def test_a_server_without_closed_loops_has_no_capacity() -> None:
    """So that no open loop is made up for it."""
    assert capacity([], "ours", CASE) == 0


def test_idle_cpu_is_the_mean_over_the_windows_of_others() -> None:
    """Per server."""
    windows = [window(idle_cpu={"a": 0.02, "b": 0.0}), window(idle_cpu={"a": 0.04})]
    assert idle_cpu(windows) == {"a": pytest.approx(0.03), "b": 0.0}


@pytest.mark.parametrize(
    ("used", "ratio"),
    [([1.0, 1.0], 1.0), ([3.0, 1.0], 1.5), ([2.0, 2.0, 0.01], 1.0), ([], 1.0), ([0.0, 0.0], 1.0)],
)
def test_the_busiest_process_is_held_against_the_mean_of_those_that_work(
    used: list[float], ratio: float
) -> None:
    """A parent that only watches does not count."""
    assert unevenness(used) == pytest.approx(ratio)
