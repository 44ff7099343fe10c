"""What a calibration concludes, over models whose cost is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.calibration import (
    Calibration,
    Limits,
    calibrate,
    cap_of,
    never_in_loop,
    sizes_up_to,
    tick_rows_of,
)
from service.errors import EngineFailure

MS = 1e-3


@dataclass(slots=True)
class Machine:
    """A model that takes ``cost(rows, length)`` seconds of a clock of its own, and refuses more."""

    cost: Callable[[int, int | None], float]
    most_rows: int = 1 << 16
    now: float = 0.0
    runs: list[tuple[int, int | None]] = field(default_factory=list)

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def prepare(self, rows: int, length: int | None) -> Callable[[], None]:
        """Run once, as what is prepared is run; what is too large fails."""
        if rows > self.most_rows:
            raise EngineFailure(f"no memory for {rows} rows")

        def run() -> None:
            self.now += self.cost(rows, length)
            self.runs.append((rows, length))

        run()
        return run

    def calibrated(
        self, limits: Limits | None = None, *, length: int | None = None, never: str = ""
    ) -> Calibration:
        """Calibrate this model."""
        limits = limits or Limits()
        return calibrate(self.prepare, limits, self.clock, length=length, never=never)


def linear(rows: int, length: int | None) -> float:
    """Cost a tenth of a millisecond a row, whatever the length."""
    del length
    return 0.1 * MS * rows


def test_sizes_are_doubled_up_to_the_most() -> None:
    """The most itself is tried too."""
    assert sizes_up_to(1) == (1,)
    assert sizes_up_to(8) == (1, 2, 4, 8)
    assert sizes_up_to(12) == (1, 2, 4, 8, 12)


@pytest.mark.parametrize(
    ("seconds", "cap"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 2.0, 4: 4.0}, 1),
        ({1: 1.0, 2: 1.5, 4: 2.8, 8: 5.5}, 4),
        ({1: 1.0, 2: 1.0, 4: 1.0}, 4),
        ({1: 1.0, 2: 1.8, 4: 9.0}, 2),
        ({1: 1.0, 2: 1.95, 4: 9.0}, 1),
    ],
)
def test_the_cap_is_the_smallest_batch_with_nearly_the_best_rate(
    seconds: dict[int, float], cap: int
) -> None:
    """A larger one would only keep its callers waiting."""
    assert cap_of(seconds, hand_over=0) == cap


def test_what_a_thread_costs_counts_for_cheap_models() -> None:
    """Rows of 10 us run in any batch alike, but each batch of them has to be handed over."""
    seconds = {rows: 10e-6 * rows for rows in sizes_up_to(32)}
    assert cap_of(seconds, hand_over=0) == 1
    assert cap_of(seconds) == 32


@given(
    st.dictionaries(st.sampled_from(sizes_up_to(64)), st.floats(1e-7, 10), min_size=1),
    st.floats(1e-7, 1),
)
def test_no_conclusion_is_beyond_what_was_measured(seconds: dict[int, float], bound: float) -> None:
    """The cap was measured, and every batch that may run in the loop is below the bound."""
    cap, rows = cap_of(seconds), tick_rows_of(seconds, bound)
    best = max(n / (one + 65e-6) for n, one in seconds.items())
    assert cap / (seconds[cap] + 65e-6) >= 0.95 * best
    assert all(one < bound for n, one in seconds.items() if n <= rows)
    assert rows in {0, *seconds}


def test_a_cheap_model_runs_in_the_loop() -> None:
    """Up to the rows whose run stays below the bound; the reason says how long one row takes."""
    found = Machine(linear).calibrated()
    assert (found.run, found.tick_rows, found.tick_length) == ("tick", 16, None)
    assert found.seconds == pytest.approx({n: 0.1 * MS * n for n in sizes_up_to(32)})
    assert "one row takes 0.1 ms" in found.why
    assert not found.from_cache


def test_a_dear_model_runs_on_threads() -> None:
    """One row already takes longer than anything may in the loop."""
    found = Machine(lambda rows, _: 3 * MS * rows).calibrated()
    assert (found.run, found.tick_rows, found.cap) == ("threads", 0, 1)
    assert found.why == "one row takes 3 ms, not below 2 ms, the bound of the event loop"


def test_a_model_that_must_not_runs_on_threads_whatever_it_costs() -> None:
    """It is measured all the same, since its cap follows from it."""
    found = Machine(linear).calibrated(never="the work of Loop depends on the values")
    assert (found.run, found.tick_rows) == ("threads", 0)
    assert found.why == "the work of Loop depends on the values"
    assert set(found.seconds) == set(sizes_up_to(32))


def test_long_rows_that_are_too_dear_are_made_shorter() -> None:
    """What is longer goes to the threads, and the rest need not."""

    def by_length(rows: int, length: int | None) -> float:
        return rows * 0.05 * MS * (length or 0)

    found = Machine(by_length).calibrated(Limits(seconds=30), length=100)
    assert (found.run, found.tick_length, found.tick_rows) == ("tick", 25, 1)
    assert found.seconds[1] == pytest.approx(5 * MS)
    never = Machine(by_length).calibrated(Limits(seconds=60), length=10_000)
    assert (never.run, never.tick_length) == ("threads", 10_000)


def test_the_fastest_run_counts() -> None:
    """Whatever disturbs a run only adds to its time."""
    turns = iter(range(10_000))
    found = Machine(lambda rows, _: rows * MS * (0.1 if next(turns) % 7 == 0 else 0.7))
    assert found.calibrated(Limits(max_rows=2)).seconds[1] == pytest.approx(0.1 * MS)


def test_at_least_twenty_runs_where_there_is_time() -> None:
    """A cheap model is run often enough for the fastest to mean something."""
    machine = Machine(linear)
    machine.calibrated()
    assert all(machine.runs.count((rows, None)) > 20 for rows in sizes_up_to(32))


@pytest.mark.parametrize("cost", [0.001, 0.01, 0.03, 0.1, 0.26, 0.9])
def test_a_calibration_keeps_to_its_time(cost: float) -> None:
    """A batch that would take more than is left is not tried, so slow models have fewer."""
    machine = Machine(lambda rows, _: cost * rows)
    found = machine.calibrated(Limits(seconds=1.0))
    assert machine.now <= max(1.1, 2 * cost)
    assert (1 in found.seconds, 2 in found.seconds) == (True, cost < 0.2)


def test_a_batch_that_fails_ends_the_search() -> None:
    """What was measured before it stands, and the cap stays below it."""
    found = Machine(linear, most_rows=4).calibrated()
    assert set(found.seconds) == {1, 2, 4}
    assert found.cap <= 4


def test_a_model_that_cannot_be_run_is_not_judged() -> None:
    """The server's limit holds, and the reason is the model's."""
    found = Machine(linear, most_rows=0).calibrated(Limits(max_rows=9))
    assert (dict(found.seconds), found.cap, found.run, found.tick_rows) == ({}, 9, "threads", 0)
    assert found.why == "nothing was measured: no memory for 1 rows"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"provider": "cuda"}, "provider cuda"),
        ({"rows_independent": False}, "rows are not known to be independent"),
        ({"threads_in_a_run": 2}, "2 threads share a run"),
        ({"value_dependent": None}, "not inspected"),
        ({"value_dependent": ("If", "Loop")}, "the work of If, Loop depends on the values"),
    ],
)
def test_why_a_model_must_not_run_in_the_loop(change: dict[str, object], reason: str) -> None:
    """Each of the reasons is enough."""
    facts = {
        "value_dependent": (), "provider": "cpu", "rows_independent": True, "threads_in_a_run": 1,
        **change,
    }  # fmt: skip
    found = never_in_loop(**facts)  # type: ignore[arg-type] # as in a table
    assert reason in found
    assert bool(found) == bool(change)
