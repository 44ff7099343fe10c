"""What the runtime reports while it works, so that it needs no metrics library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from service.tracing import RunTrace


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One run of a model: how many jobs and rows shared it, and the seconds it took."""

    model: str
    version: int
    jobs: int
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A version that has begun to answer: what its load took, and how far its proof was off.

    ``max_error`` is the largest absolute difference from a recorded answer, None without a proof.
    """

    model: str
    version: int
    seconds: float
    provider: str
    max_error: float | None


class Observer(Protocol):
    """Receives every event worth counting; called on the event loop, must not block or raise."""

    def model_state(self, model: str, version: int, state: str) -> None:
        """Note that a version of a model is now in ``state``."""

    def loaded(self, report: LoadReport) -> None:
        """Note what a load was like whose version stands now."""

    def request(
        self,
        model: str,
        version: int,
        *,
        outcome: str,
        rows: int,
        seconds: Mapping[str, float],
    ) -> None:
        """Count one request to a known model.

        ``outcome`` is "success" or an error's code; ``seconds`` are keyed by stage: queue,
        preprocess, infer, postprocess, total.
        """

    def refused(self, code: str) -> None:
        """Count a request that was refused before its model was known."""

    def batch(self, report: BatchReport) -> None:
        """Count one run of a model."""

    def traced(self, run: RunTrace) -> None:
        """Note a run that requests with recorded traces were part of."""

    def queue(self, model: str, version: int, rows: int) -> None:
        """Note how many rows of a model wait."""

    def stuck(self, model: str, version: int, seconds: float) -> None:
        """Note that a run was told to end so many seconds ago, and goes on."""

    def placement(
        self, model: str, version: int, *, nodes: Mapping[str, int], fell_back: bool
    ) -> None:
        """Note how many nodes of a model's graph each provider runs.

        ``fell_back`` says that another provider does the work than the first that was asked for.
        """


class Observers:
    """Several observers as one; each hears of every event, in order."""

    def __init__(self, *observers: Observer) -> None:
        """Keep who is to be told."""
        self._observers = observers

    def model_state(self, model: str, version: int, state: str) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.model_state(model, version, state)

    def loaded(self, report: LoadReport) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.loaded(report)

    def request(
        self,
        model: str,
        version: int,
        *,
        outcome: str,
        rows: int,
        seconds: Mapping[str, float],
    ) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.request(model, version, outcome=outcome, rows=rows, seconds=seconds)

    def refused(self, code: str) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.refused(code)

    def batch(self, report: BatchReport) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.batch(report)

    def traced(self, run: RunTrace) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.traced(run)

    def queue(self, model: str, version: int, rows: int) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.queue(model, version, rows)

    def stuck(self, model: str, version: int, seconds: float) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.stuck(model, version, seconds)

    def placement(
        self, model: str, version: int, *, nodes: Mapping[str, int], fell_back: bool
    ) -> None:
        """Pass the event on."""
        for observer in self._observers:
            observer.placement(model, version, nodes=nodes, fell_back=fell_back)


class NullObserver:
    """An observer that notes nothing, for uses without metrics such as the command line."""

    def model_state(self, model: str, version: int, state: str) -> None:
        """Ignore the event."""

    def loaded(self, report: LoadReport) -> None:
        """Ignore the event."""

    def request(
        self,
        model: str,
        version: int,
        *,
        outcome: str,
        rows: int,
        seconds: Mapping[str, float],
    ) -> None:
        """Ignore the event."""

    def refused(self, code: str) -> None:
        """Ignore the event."""

    def batch(self, report: BatchReport) -> None:
        """Ignore the event."""

    def traced(self, run: RunTrace) -> None:
        """Ignore the event."""

    def queue(self, model: str, version: int, rows: int) -> None:
        """Ignore the event."""

    def stuck(self, model: str, version: int, seconds: float) -> None:
        """Ignore it."""

    def placement(
        self, model: str, version: int, *, nodes: Mapping[str, int], fell_back: bool
    ) -> None:
        """Ignore the event."""
