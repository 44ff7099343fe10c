"""Hand-made stand-ins for what the runtime stands on: threads, engine, observer, packages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.engine import Stop
from service.observer import BatchReport, LoadReport
from service.tensors import Tensor, Tensors, TensorSpec
from service.tracing import RunTrace


async def settle() -> None:
    """Let everything happen on the event loop that waits for nothing from outside."""
    for _ in range(20):
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Work:
    """One call that was handed to a thread and has not begun."""

    future: Future[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class HandExecutor(Executor):
    """Threads that work only when a test says so: one call a step, the oldest first."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self.waiting: deque[Work] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Keep the call until its step."""
        assert not kwargs
        future: Future[Any] = Future()
        self.waiting.append(Work(future, fn, args))
        return future

    async def step(self, times: int = 1) -> None:
        """Do the oldest calls that nobody has cancelled, and let their results arrive."""
        for _ in range(times):
            work = self.waiting.popleft()
            if work.future.set_running_or_notify_cancel():
                try:
                    work.future.set_result(work.function(*work.arguments))
                except Exception as error:  # noqa: BLE001 - as a thread's executor does
                    work.future.set_exception(error)
            await settle()

    async def fail(self, error: BaseException) -> Work:
        """Let the oldest call end with an error without doing it; return the call."""
        work = self.waiting.popleft()
        work.future.set_exception(error)
        await settle()
        return work


@dataclass(slots=True)
class FakeEngine:
    """An engine with a function for a graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    function: Callable[[Tensors], dict[str, Tensor]]
    provider: str = "cpu"
    closed: bool = False

    def run(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None
    ) -> dict[str, Tensor]:
        """Return the wanted results of the function."""
        found = self.function(inputs)
        return {name: found[name] for name in wanted}

    def close(self) -> None:
        """Remember it."""
        self.closed = True


@dataclass(frozen=True, slots=True)
class Request:
    """What an observer was told of one request."""

    model: str
    outcome: str
    rows: int
    stages: frozenset[str]


@dataclass(slots=True)
class Witness:
    """An observer that remembers everything in order."""

    states: list[tuple[str, str]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    batches: list[BatchReport] = field(default_factory=list)
    queues: list[int] = field(default_factory=list)
    sick: list[tuple[str, int]] = field(default_factory=list)
    placements: list[tuple[str, dict[str, int], bool]] = field(default_factory=list)

    def model_state(self, model: str, version: int, state: str) -> None:
        """Remember the state."""
        self.states.append((model, str(state)))

    def request(
        self,
        model: str,
        version: int,
        *,
        outcome: str,
        rows: int,
        seconds: Mapping[str, float],
    ) -> None:
        """Remember the request and which stages were timed."""
        self.requests.append(Request(model, outcome, rows, frozenset(seconds)))

    def refused(self, code: str) -> None:
        """Remember the refusal."""
        self.refusals.append(code)

    def batch(self, report: BatchReport) -> None:
        """Remember the run."""
        self.batches.append(report)

    def loaded(self, report: LoadReport) -> None:
        """Ignore the event."""

    def traced(self, run: RunTrace) -> None:
        """Ignore the event."""

    def queue(self, model: str, version: int, rows: int) -> None:
        """Remember the length."""
        self.queues.append(rows)

    def stuck(self, model: str, version: int, seconds: float) -> None:
        """Remember whose run does not end."""
        self.sick.append((model, version))

    def placement(
        self, model: str, version: int, *, nodes: Mapping[str, int], fell_back: bool
    ) -> None:
        """Remember it."""
        self.placements.append((model, dict(nodes), fell_back))


def write_distribution(site: Path, name: str) -> None:
    """Write what pip leaves behind of an installed package."""
    folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
