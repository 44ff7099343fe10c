"""One run of a batch: rows together, in pieces, and again by halves where one row is to blame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from service.errors import DeadlineExceeded, EngineFailure, InvalidRequest, ServiceError
from service.lane import Job, Outcome, Run, Stop
from service.padding import Layout
from service.scheduling import split_failed
from service.tensors import Tensor, Tensors, split, stack
from service.tracing import Trace

# The stop that the model gets is one that `new_stop` made; what it looks like is their affair.
RunEngine = Callable[[Tensors, Sequence[str], Any], dict[str, Tensor]]
Call = Callable[[Tensors, Sequence[str]], dict[str, Tensor]]
Attempt = Callable[[Sequence[Job]], list[dict[str, Tensor]]]


def _ignore(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who hears what.

    Attributes:
        on_batch: Jobs, rows and seconds of every run.
        on_queue: The queued rows, whenever a turn of the loop has changed them.
        on_moved: Why a model's runs have left the loop for good.
        on_stuck: Seconds that a run has gone on although it was told to end; for a run in the
            loop on the watchdog's thread, else on the loop.
        on_traced: The recorded traces of the jobs of a run, its rows, and when it began and ended,
            for runs with such jobs.
    """

    on_batch: Callable[[int, int, float], None] = _ignore
    on_queue: Callable[[int], None] = _ignore
    on_moved: Callable[[str], None] = _ignore
    on_stuck: Callable[[float], None] = _ignore
    on_traced: Callable[[Sequence[Trace], int, float, float], None] = _ignore


class Watch(Protocol):
    """Looks after runs in the event loop, as `service.watchdog` does."""

    def begin(self, stop: Stop, on_stuck: Callable[[float], None]) -> None:
        """Watch the run that begins now."""
        ...

    def end(self) -> None:
        """Watch no longer."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """What is run: ``run`` answers tensors, and ends early when its stop says so."""

    run: RunEngine
    new_stop: Callable[[], Stop]
    layout: Layout

    def attempt(
        self, batch: Sequence[Job], stop: Stop, *, max_rows: int, together: bool
    ) -> list[dict[str, Tensor]]:
        """Run a batch under a stop, see `run_together`."""

        def call(inputs: Tensors, wanted: Sequence[str]) -> dict[str, Tensor]:
            return self.run(inputs, wanted, stop)

        return run_together(call, batch, self.layout, max_rows=max_rows, together=together)


class RowsMismatch(EngineFailure):
    """An output has another number of rows than the inputs, so it cannot be cut up again."""


class Results(NamedTuple):
    """What became of the jobs of a run, and when a thread began and ended it."""

    outcomes: list[tuple[Job, Outcome]]
    started: float
    ended: float


def late() -> DeadlineExceeded:
    """Return what a job is told whose deadline has passed."""
    return DeadlineExceeded("the deadline passed before the answer was there")


def failure(surprise: BaseException | None) -> EngineFailure:
    """Return what a job is told whose run failed in a way that nobody foresaw."""
    told = EngineFailure("the model could not be run")
    told.__cause__ = surprise
    return told


def run_together(
    call: Call, batch: Sequence[Job], layout: Layout, *, max_rows: int, together: bool
) -> list[dict[str, Tensor]]:
    """Run jobs of one key in as few calls as ``max_rows`` allows and return each one's outputs.

    A job that shares no run is one call, in one piece.  Raises what the model raises, and
    RowsMismatch if other rows come back than went in.
    """
    first = batch[0]
    if not together or first.key is None:
        return [call(job.inputs, job.wanted) for job in batch]
    rows = [job.rows for job in batch]
    joined = layout.join([job.inputs for job in batch]) if len(batch) > 1 else first.inputs
    outputs = _in_pieces(call, joined, first.wanted, rows=sum(rows), size=max_rows)
    if len(batch) == 1:
        return [outputs]
    parts = split(outputs, rows)
    if layout.padding is None:
        return parts
    return [layout.cut(part, job.inputs) for part, job in zip(parts, batch, strict=True)]


def _in_pieces(
    call: Call, joined: Tensors, wanted: Sequence[str], *, rows: int, size: int
) -> dict[str, Tensor]:
    if rows <= size:
        outputs = call(joined, wanted)
        _check_rows(outputs, rows)
        return outputs
    parts = []
    for start in range(0, rows, size):
        parts.append(call({n: v[start : start + size] for n, v in joined.items()}, wanted))
        _check_rows(parts[-1], min(size, rows - start))
    return stack(parts)


def work(run: Run, attempt: Attempt, clock: Callable[[], float]) -> Results:
    """Do a run on a thread, which may have kept it waiting for a while."""
    started = clock()
    outcomes = [pair for part in run.parts for pair in _isolated(run, part, attempt, clock)]
    return Results(outcomes, started, clock())


def _isolated(
    run: Run, batch: Iterable[Job], attempt: Attempt, clock: Callable[[], float]
) -> list[tuple[Job, Outcome]]:
    """Return each job's outputs or its own error; a failing batch is run again by halves.

    Who has left meanwhile is left out, and who is late does not start.
    """
    now = clock()
    waiting = [job for job in batch if not job.gone]
    outcomes: list[tuple[Job, Outcome]] = [(j, late()) for j in waiting if j.deadline <= now]
    living = [job for job in waiting if job.deadline > now]
    if not living:
        return outcomes
    try:
        outcomes += zip(living, attempt(living), strict=True)
    except ServiceError as error:
        if not shared_blame(error, living) or run.stop.stopped:
            return [*outcomes, *((job, error) for job in living)]
        for half in split_failed(living):
            outcomes += _isolated(run, half, attempt, clock)
    return outcomes


def shared_blame(error: ServiceError, batch: Sequence[Job]) -> bool:
    """Whether a batch failed for what may be one job's fault.

    The model itself is to blame for rows that are lost or too many, and halves would hide it.
    """
    guilty = isinstance(error, (EngineFailure, InvalidRequest))
    return guilty and not isinstance(error, RowsMismatch) and len(batch) > 1


def _check_rows(outputs: Tensors, rows: int) -> None:
    for name, value in outputs.items():
        if not value.ndim or len(value) != rows:
            raise RowsMismatch(
                f"output '{name}' has shape {list(value.shape)} for {rows} rows; "
                "from now on the model runs one request at a time"
            )
