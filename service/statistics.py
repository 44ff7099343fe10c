"""What each version has done since it was first loaded, as counters that only grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.observer import BatchReport, LoadReport
from service.tracing import RunTrace

_EXACT_SIZES = 128
_DURATIONS = ("success", "fail", "queue", "input", "infer", "output")


@dataclass(slots=True)
class Duration:
    """How often something took time, and how many nanoseconds all of it took."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.ns += round(seconds * 1e9)

    def as_json(self) -> dict[str, int]:
        """Return both numbers, in the protocol's words."""
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class Counters:
    """The counters of one version; all but ``success`` and ``fail`` are of successful requests.

    ``queue``, ``input``, ``infer`` and ``output`` are the stages of a request: it waits, its raw
    input becomes tensors, the batch that it is part of runs, its tensors become an answer.
    ``rows`` are those of answered requests, ``batches`` the time of runs by their size in rows.
    """

    last_inference: int = 0
    rows: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    input: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    def request(self, *, rows: int, seconds: Mapping[str, float], now: float) -> None:
        """Count a successful request; ``now`` is in seconds since the epoch."""
        self.last_inference = round(now * 1000)
        self.rows += rows
        self.success.add(seconds.get("total", 0.0))
        # V2 has no first and last stage: there they are counted as taking no time.
        self.queue.add(seconds.get("queue", 0.0))
        self.input.add(seconds.get("preprocess", 0.0))
        self.infer.add(seconds.get("infer", 0.0))
        self.output.add(seconds.get("postprocess", 0.0))

    def plain(self) -> dict[str, Any]:
        """Return the counters so that they can be sent and added member by member."""
        plain: dict[str, Any] = {"last_inference": self.last_inference, "rows": self.rows}
        for name in _DURATIONS:
            duration: Duration = getattr(self, name)
            plain[name] = [duration.count, duration.ns]
        plain["batches"] = {str(size): [d.count, d.ns] for size, d in self.batches.items()}
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Counters:
        """Return what `plain` has written."""
        durations = {name: Duration(*plain[name]) for name in _DURATIONS}
        batches = {int(size): Duration(*value) for size, value in plain["batches"].items()}
        return cls(plain["last_inference"], plain["rows"], batches=batches, **durations)

    def as_json(self) -> dict[str, object]:
        """Return the members of the statistics extension, all times in nanoseconds."""
        nothing = Duration().as_json()
        return {
            "last_inference": self.last_inference,
            "inference_count": self.rows,
            "execution_count": sum(runs.count for runs in self.batches.values()),
            "inference_stats": {
                "success": self.success.as_json(),
                "fail": self.fail.as_json(),
                "queue": self.queue.as_json(),
                "compute_input": self.input.as_json(),
                "compute_infer": self.infer.as_json(),
                "compute_output": self.output.as_json(),
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "response_stats": {},
            "batch_stats": [
                {
                    "batch_size": size,
                    # A run is timed as a whole, joining and cutting its tensors included.
                    "compute_input": {"count": runs.count, "ns": 0},
                    "compute_infer": runs.as_json(),
                    "compute_output": {"count": runs.count, "ns": 0},
                }
                for size, runs in sorted(self.batches.items())
            ],
            "memory_usage": [],
        }


def counted_size(rows: int) -> int:
    """Return the size under which a run is counted: exact, or the next power of two above 128.

    A request may have any number of rows, and there must not be a counter for each.
    """
    return rows if rows <= _EXACT_SIZES else 1 << (rows - 1).bit_length()


class Statistics:
    """Counters by version; a `service.observer.Observer` for the runtime."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin with nothing; ``clock`` tells the seconds since the epoch."""
        self._clock = clock
        # Changed only by the runtime's reports, on the event loop.
        self._counters: dict[tuple[str, int], Counters] = {}

    def of(self, model: str, version: int) -> Counters:
        """Return the counters of a version, all zero if it has not been heard of."""
        return self._counters.get((model, version), Counters())

    def snapshot(self) -> list[list[Any]]:
        """Return rows of model, version and counters as plain values; `History` reads them."""
        return [[model, version, c.plain()] for (model, version), c in self._counters.items()]

    def model_state(self, model: str, version: int, state: str) -> None:
        """Let a version begin at zero, and forget one that is unloaded."""
        if state == "UNLOADED":
            self._counters.pop((model, version), None)
        else:
            self._known(model, version)

    def loaded(self, report: LoadReport) -> None:
        """Ignore what is no counter."""

    def request(
        self,
        model: str,
        version: int,
        *,
        outcome: str,
        rows: int,
        seconds: Mapping[str, float],
    ) -> None:
        """Count one request by its outcome."""
        counters = self._known(model, version)
        if outcome == "success":
            counters.request(rows=rows, seconds=seconds, now=self._clock())
        else:
            counters.fail.add(seconds.get("total", 0.0))

    def refused(self, code: str) -> None:
        """Ignore what no model has seen."""

    def batch(self, report: BatchReport) -> None:
        """Count one run."""
        batches = self._known(report.model, report.version).batches
        batches.setdefault(counted_size(report.rows), Duration()).add(report.seconds)

    def traced(self, run: RunTrace) -> None:
        """Ignore the event."""

    def queue(self, model: str, version: int, rows: int) -> None:
        """Ignore what is no counter."""

    def stuck(self, model: str, version: int, seconds: float) -> None:
        """Ignore what the log tells."""

    def placement(
        self, model: str, version: int, *, nodes: Mapping[str, int], fell_back: bool
    ) -> None:
        """Ignore what is in model-info."""

    def _known(self, model: str, version: int) -> Counters:
        return self._counters.setdefault((model, version), Counters())


class History:
    """Counters by version as they were when they were asked for."""

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        """Keep rows of model, version and plain counters."""
        self._counters = {(row[0], row[1]): Counters.from_plain(row[2]) for row in rows}

    def of(self, model: str, version: int) -> Counters:
        """Return the counters of a version, all zero if it has not been heard of."""
        return self._counters.get((model, version), Counters())
