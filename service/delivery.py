"""Answers on their way out: every accepted job gets exactly one, whatever its neighbours do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from service.errors import ServiceError
from service.lane import Job
from service.scheduling import Ran


class Delivery:
    """Hands answers to the callers of jobs and counts who still waits for one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_trouble: Callable[[], None]) -> None:
        """Begin with nobody; ``on_trouble`` is told that a caller's own code has failed."""
        self._loop = loop
        self._on_trouble = on_trouble
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
                self._on_trouble()
