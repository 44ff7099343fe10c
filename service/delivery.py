"""Answers on their way out: every accepted job gets exactly one, whatever its neighbours do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from service.errors import ServiceError
from service.lane import Job
from service.runs import Results, late
from service.scheduling import Ran, Timings


class Delivery:
    """Hands answers to the callers of jobs and counts who still waits for one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_quiet: Callable[[], None]) -> None:
        """Begin with nobody; ``on_quiet`` is told whenever nobody waits any more."""
        self._loop = loop
        self._on_quiet = on_quiet
        # Jobs that were accepted and neither answered nor cancelled.
        self.open = 0

    def deliver(self, answers: Sequence[tuple[Job, Ran | ServiceError]]) -> None:
        """Call every job's ``on_done`` that was not called and not cancelled yet."""
        done, clean = 0, False
        try:
            for job, answer in answers:
                done += 1
                on_done = job.on_done
                if on_done is not None:
                    job.on_done = None
                    self.open -= 1
                    on_done(answer)
            clean = True
        finally:
            if not clean:
                # A caller's own error is for the loop to report, and no reason to forget the rest.
                self._loop.call_soon(self.deliver, answers[done:])
            if not self.open:
                self._on_quiet()

    def finish(self, results: Results, rows: int) -> None:
        """Answer the jobs of a run of so many rows."""
        started, seconds = results.started, results.ended - results.started
        answers: list[tuple[Job, Ran | ServiceError]] = []
        for job, outcome in results.outcomes:
            if isinstance(outcome, ServiceError):
                answers.append((job, outcome))
            else:
                timings = Timings(started - job.queued_at, seconds, rows, job.queued_at)
                answers.append((job, Ran(outcome, timings)))
        self.deliver(answers)

    def too_late(self, jobs: Sequence[Job]) -> None:
        """Answer jobs that are late, soon: a caller's error must not stop who found them."""
        if jobs:
            self._loop.call_soon(self.deliver, [(job, late()) for job in jobs])
