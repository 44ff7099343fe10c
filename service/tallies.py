"""Plain numbers that the busiest road counts with; `service.metrics` shows them.

A counter of prometheus_client takes a lock and looks its labels up, each time; a request counts
about ten of them.  These belong to the event loop and cost a tenth.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from service.observer import LoadReport

STAGES = ("queue", "preprocess", "infer", "postprocess", "total")
_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Distribution:
    """How many values fell below each bound, and the sum of all."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin empty; ``bounds`` are inclusive upper ends in ascending order."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return how many values are at or below each bound, as the text format shows it."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


def _of_seconds() -> Distribution:
    return Distribution(_SECONDS)


def _of_rows() -> Distribution:
    return Distribution(_ROWS)


# What is shown before it first happens, so that rates begin at zero.
OUTCOMES = (
    "success", "cancelled", "deadline_exceeded", "engine_failure", "invalid_request", "overloaded",
)  # fmt: skip
REFUSALS = (
    "invalid_request", "method_not_allowed", "model_not_found", "model_not_ready", "not_found",
    "overloaded", "too_large", "too_slow",
)  # fmt: skip


@dataclass(slots=True)
class ModelTally:
    """The numbers of one version of a model; ``requests`` are keyed by outcome.

    ``load`` is what its load was like, None until it has answered.
    """

    requests: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    rows: int = 0
    stages: dict[str, Distribution] = field(default_factory=dict)
    batch_rows: Distribution = field(default_factory=_of_rows)
    batch_seconds: Distribution = field(default_factory=_of_seconds)
    queue_rows: int = 0
    state: str = ""
    load: LoadReport | None = None
    nodes: dict[str, int] = field(default_factory=dict)
    fell_back: bool = False

    def request(self, outcome: str, rows: int, seconds: Mapping[str, float]) -> None:
        """Count one request; only successful ones enter the durations, errors are too quick."""
        self.requests[outcome] = self.requests.get(outcome, 0) + 1
        if outcome != "success":
            return
        self.rows += rows
        stages = self.stages
        for stage, spent in seconds.items():
            if stage not in stages:
                stages[stage] = _of_seconds()
            stages[stage].add(spent)

    def batch(self, rows: int, seconds: float) -> None:
        """Count one run."""
        self.batch_rows.add(rows)
        self.batch_seconds.add(seconds)


class Tallies:
    """The numbers of one server: by model and version, by road and status, by reason."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.models: dict[tuple[str, int], ModelTally] = {}
        self.http: dict[tuple[str, int], int] = {}
        self.refused: dict[str, int] = dict.fromkeys(REFUSALS, 0)
        self.active = 0

    def of(self, model: str, version: int) -> ModelTally:
        """Return the numbers of a version, new ones if it has none."""
        tally = self.models.get((model, version))
        if tally is None:
            tally = self.models[model, version] = ModelTally()
        return tally

    def labelled(self) -> Iterator[tuple[list[str], ModelTally]]:
        """Yield label values (model, version) and numbers, sorted."""
        for (model, version), tally in sorted(self.models.items()):
            yield [model, str(version)], tally
