"""One V2 call under way: it leases a model, is checked, waits, runs, and ends exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from service.batcher import Job, Ran, Timings
from service.errors import ServiceError
from service.lease import Lease
from service.observer import Observer
from service.tensors import Tensor, Tensors


@dataclass(frozen=True, slots=True)
class Prediction:
    """The outputs of one call, in the model's order, and the names of the classes they score.

    ``left_out`` names the outputs that were not asked for by name and are no tensors.
    """

    model: str
    version: int
    outputs: dict[str, Tensor]
    rows: int
    timings: Timings
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


OnDone = Callable[[Prediction | ServiceError], None]


class Inference:
    """What is under way; it holds no task and no future, since the busiest road pays for each."""

    __slots__ = ("_ended", "_job", "_lease", "_named", "_names", "_observer", "_on_done",
                 "_rows", "_started")  # fmt: skip

    def __init__(self, lease: Lease, observer: Observer, on_done: OnDone) -> None:
        """Take over the lease; ``on_done`` hears the outcome once, unless the call is cancelled."""
        self._lease = lease
        self._observer = observer
        self._on_done = on_done
        self._started = time.monotonic()
        self._rows = 0
        self._names: tuple[str, ...] = ()
        self._named = False
        self._job: Job | None = None
        self._ended = False

    def begin(self, inputs: Tensors, wanted: Sequence[str] | None, deadline: float) -> None:
        """Check the tensors and queue them.

        Raises a ServiceError if they are refused; the call has ended then, and nobody hears more.
        """
        model = self._lease.model
        outcome = ServiceError.code
        try:
            terms = model.terms
            self._rows = terms.check(inputs)
            self._names = terms.wanted(wanted)
            self._named = bool(wanted)
            self._job = model.batcher.enqueue(
                inputs,
                self._names,
                rows=self._rows,
                deadline=deadline,
                on_done=self._answered,
                alone=terms.is_alone(inputs),
            )
            outcome = ""
        except ServiceError as error:
            outcome = error.code
            raise
        finally:
            if outcome:
                self._end(outcome, {})

    def cancel(self) -> None:
        """End the call without an answer: its caller has gone."""
        if not self._ended:
            self._end("cancelled", {})
            if self._job is not None:
                self._job.cancel()

    def _answered(self, outcome: Ran | ServiceError) -> None:
        if self._ended:
            return
        if isinstance(outcome, ServiceError):
            self._end(outcome.code, {})
            self._on_done(outcome)
            return
        timings, model = outcome.timings, self._lease.model
        terms = model.terms
        self._end("success", {"queue": timings.queue, "infer": timings.infer})
        self._on_done(
            Prediction(
                model.name,
                model.version,
                {name: outcome.outputs[name] for name in self._names},
                self._rows,
                timings,
                terms.labels,
                () if self._named else terms.left_out,
            )
        )

    def _end(self, outcome: str, seconds: dict[str, float]) -> None:
        """Report how the call ended and give the lease back."""
        self._ended = True
        model = self._lease.model
        seconds["total"] = time.monotonic() - self._started
        self._observer.request(
            model.name, model.version, outcome=outcome, rows=self._rows, seconds=seconds
        )
        self._lease.release()
