"""From windows to rows: medians, and which windows count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.cases import Case
from benchmarks.measure import Window


@dataclass(frozen=True, slots=True)
class Row:
    """One server in one case: medians of its windows; ``quiet`` of ``windows`` were quiet.

    ``low`` and ``high`` are the rates of the slowest and the fastest window. ``share`` is rows/s
    over what ONNX Runtime itself reached, NaN if that was not measured. ``busiest`` is 1 when all
    working processes of the server used the same CPU time.
    """

    server: str
    case: Case
    rate: float
    low: float
    high: float
    p50: float
    p99: float
    cpu_per_request: float
    memory: float
    generator_cpu: float
    share: float
    busiest: float
    health_p99: float
    offered: float
    errors: Mapping[str, int]
    windows: int
    quiet: int

    @property
    def rows_rate(self) -> float:
        """Rows a second."""
        return self.rate * self.case.rows


def counted(windows: Sequence[Window]) -> Sequence[Window]:
    """Return the windows that medians are taken of: the quiet ones if there are two, else all."""
    quiet = [window for window in windows if not window.noisy]
    return quiet if len(quiet) >= 2 else windows


def summarise(windows: Iterable[Window], limits: Mapping[str, float]) -> list[Row]:
    """Return a row for each server and case, in the order of their first windows."""
    groups: dict[tuple[Case, str], list[Window]] = {}
    for window in windows:
        groups.setdefault((window.case, window.server), []).append(window)
    rows = [_row(group, limits) for group in groups.values()]
    order = {case: i for i, case in enumerate(dict.fromkeys(row.case for row in rows))}
    return sorted(rows, key=lambda row: order[row.case])


def capacity(windows: Iterable[Window], server: str, case: Case) -> float:
    """Return the best median rate of a server's closed loops over a model, an encoding and rows.

    0 if there was none.
    """
    rows = summarise((each for each in windows if _same_work(each, server, case)), {})
    return max((row.rate for row in rows), default=0.0)


def idle_cpu(windows: Iterable[Window]) -> dict[str, float]:
    """Return what each server used on average, in cores, while others were measured."""
    seen: dict[str, list[float]] = {}
    for window in windows:
        for server, used in window.idle_cpu.items():
            seen.setdefault(server, []).append(used)
    return {server: sum(values) / len(values) for server, values in seen.items()}


def _same_work(window: Window, server: str, case: Case) -> bool:
    found = window.case
    same = (found.model, found.encoding, found.rows) == (case.model, case.encoding, case.rows)
    return same and window.server == server and not found.factor


def _row(group: Sequence[Window], limits: Mapping[str, float]) -> Row:
    first, kept = group[0], counted(group)
    rate = median(window.rate for window in kept)
    errors: dict[str, int] = {}
    for window in group:
        for kind, count in window.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    limit = limits.get(first.case.model, math.nan)
    return Row(
        server=first.server,
        case=first.case,
        rate=rate,
        low=min(window.rate for window in kept),
        high=max(window.rate for window in kept),
        p50=median(window.p50 for window in kept),
        p99=median(window.p99 for window in kept),
        cpu_per_request=median(window.cpu_per_request for window in kept),
        memory=median(window.memory for window in kept),
        generator_cpu=median(window.generator_cpu for window in kept),
        share=rate * first.case.rows / limit,
        busiest=median(window.busiest for window in kept),
        health_p99=median(window.health_p99 for window in kept),
        offered=median(window.offered for window in kept),
        errors=errors,
        windows=len(group),
        quiet=sum(not window.noisy for window in group),
    )
