"""What a run costs on this machine, and what follows: the batch's cap and where it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from service.errors import EngineFailure, InvalidRequest
from service.serving import RunMode

# What a batch costs besides its run when an engine's thread takes it: there and back.
HAND_OVER = 65e-6
NEARLY_BEST = 0.95
_ROUNDS = 3
_SHORTER = (2, 4, 8)

Clock = Callable[[], float]
# Makes ready a batch of so many rows and this length, and returns what runs it once.
Prepare = Callable[[int, "int | None"], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a calibration goes, and the bound that it looks for.

    ``seconds`` are for all of it, in the time of the clock that is used; the fastest of ``runs``
    runs counts, or of fewer where time is short.  No run in the event loop may take longer
    than ``loop_seconds``.
    """

    max_rows: int = 32
    seconds: float = 1.0
    runs: int = 30
    loop_seconds: float = 0.002


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured and what it suggests.

    ``seconds`` are those of the fastest run by its rows, at the longest that a row may be;
    ``tick_length`` is that or, where it had to be, what is short enough for the event loop, and
    None where no axis but the first is free.  ``tick_rows`` is 0 if nothing may run in the loop.
    """

    seconds: Mapping[int, float]
    cap: int
    run: RunMode
    tick_rows: int
    tick_length: int | None
    why: str
    from_cache: bool = field(default=False, compare=False)


def sizes_up_to(max_rows: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... and at the end the most itself."""
    powers = (1 << power for power in range(max_rows.bit_length()))
    return tuple(sorted({*powers, max_rows}))


def cap_of(seconds: Mapping[int, float], hand_over: float = HAND_OVER) -> int:
    """Return the smallest batch that has nearly the best rate of rows, hand-over included.

    Larger ones make everybody in them wait and gain nothing.  Without the hand-over a model that
    takes less than it would be given batches of one row, each with a hand-over of its own.
    """
    rates = {rows: rows / (one + hand_over) for rows, one in seconds.items()}
    best = max(rates.values())
    return min(rows for rows, rate in rates.items() if rate >= NEARLY_BEST * best)


def tick_rows_of(seconds: Mapping[int, float], bound: float) -> int:
    """Return the most rows whose run, and that of fewer, stays below the bound; 0 for none."""
    most = 0
    for rows, one in sorted(seconds.items()):
        if one >= bound:
            break
        most = rows
    return most


def never_in_loop(
    value_dependent: Sequence[str] | None,
    *,
    provider: str,
    rows_independent: bool,
    threads_in_a_run: int,
) -> str:
    """Return why a model must not run in the event loop whatever it costs, "" if it may.

    ``value_dependent`` are the graph's operators whose work the values of a request decide, None if
    nobody has looked.
    """
    if provider != "cpu":
        return f"provider {provider} is waited for"
    if not rows_independent:
        return "rows are not known to be independent"
    if threads_in_a_run > 1:
        return f"{threads_in_a_run} threads share a run"
    if value_dependent is None:
        return "the graph was not inspected"
    if value_dependent:
        names = ", ".join(value_dependent)
        return f"the work of {names} depends on the values of a request"
    return ""


def calibrate(
    prepare: Prepare, limits: Limits, clock: Clock, *, length: int | None, never: str
) -> Calibration:
    """Time batches of 1, 2, 4, ... rows of the given length and judge.

    Where one row of that length is too dear for the event loop, shorter ones are tried.  A batch
    that fails, or would take more time than is left, ends the search.  Never raises for the model.
    """
    ends = clock() + limits.seconds
    try:
        seconds = _timed(prepare, limits, clock, length=length, ends=ends)
    except (InvalidRequest, EngineFailure) as error:
        return unmeasured(limits, never or f"nothing was measured: {error}")
    cap, one_row = cap_of(seconds), f"one row takes {1e3 * seconds[1]:.3g} ms"
    if never:
        return Calibration(seconds, cap, "threads", 0, length, never)
    rows, fits = tick_rows_of(seconds, limits.loop_seconds), length
    for factor in _SHORTER:
        if rows or length is None or length < factor:
            break
        fits = length // factor
        with suppress(InvalidRequest, EngineFailure):
            table = _timed(prepare, limits, clock, length=fits, ends=ends)
            rows = tick_rows_of(table, limits.loop_seconds)
    bound = f"{1e3 * limits.loop_seconds:g} ms, the bound of the event loop"
    if not rows:
        return Calibration(seconds, cap, "threads", 0, length, f"{one_row}, not below {bound}")
    why = f"{one_row}; runs of up to {rows} rows stay below {bound}"
    return Calibration(seconds, cap, "tick", rows, fits, why)


def unmeasured(limits: Limits, why: str) -> Calibration:
    """Return what holds for a model of which no cost is known."""
    return Calibration({}, limits.max_rows, "threads", 0, None, why)


def _timed(
    prepare: Prepare, limits: Limits, clock: Clock, *, length: int | None, ends: float
) -> dict[int, float]:
    """Return the seconds of the fastest run by rows; raises if not even one row can be run.

    All sizes are timed in rounds, so that what disturbs the machine for a while spoils none.
    """
    seconds: dict[int, float] = {}
    ready: dict[int, Callable[[], None]] = {}
    sizes, runs = sizes_up_to(limits.max_rows), math.ceil(limits.runs / _ROUNDS)
    for place, rows in enumerate(sizes):
        left = ends - clock()
        # At least one run and, before any is timed, the one that makes the memory grow.
        if place and 2 * seconds[sizes[place - 1]] * rows / sizes[place - 1] > left:
            break
        try:
            ready[rows] = prepare(rows, length)
            until = clock() + left / (_ROUNDS * (len(sizes) - place))
            seconds[rows] = _fastest(ready[rows], runs, clock, until)
        except (InvalidRequest, EngineFailure):
            if not seconds:
                raise
            break
    for turn in range((_ROUNDS - 1) * len(seconds)):
        rows = tuple(seconds)[turn % len(seconds)]
        left = ends - clock()
        if seconds[rows] < left:
            until = clock() + left / ((_ROUNDS - 1) * len(seconds) - turn)
            seconds[rows] = min(seconds[rows], _fastest(ready[rows], runs, clock, until))
    return seconds


def _fastest(run: Callable[[], None], runs: int, clock: Clock, until: float) -> float:
    """Return the time of the fastest run: whatever disturbs one only adds to it.

    The first is made at any price, so that a slow model is known to be slow.
    """
    fastest = math.inf
    for done in range(runs):
        began = clock()
        if done and began >= until:
            break
        run()
        fastest = min(fastest, clock() - began)
    return fastest
