"""Windows made by hand."""

from __future__ import annotations

from typing import Any

from benchmarks.cases import Case
from benchmarks.measure import Window

CASE = Case("cnn", "json", 8)


def window(
    rate: float = 100.0, *, server: str = "ours", case: Case = CASE, **members: Any
) -> Window:
    """Return a quiet window; everything but the rate has a plain value."""
    plain: dict[str, Any] = {
        "repeat": 0,
        "p50": 0.001,
        "p99": 0.002,
        "cpu_per_request": 0.0005,
        "memory": 100_000_000,
        "generator_cpu": 0.1,
        "foreign": 0.0,
        "stolen": 0.0,
        "offered": 0.0,
    }
    return Window(server=server, case=case, rate=rate, **(plain | members))
