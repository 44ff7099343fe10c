"""Batches on the engine's threads: handed over, waited for, and ended early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial

from service.lane import Job, Run
from service.runs import Attempt, Results, work
from service.scheduling import STUCK_AFTER


class ThreadRuns:
    """The runs of one model that are on their way through an executor."""

    def __init__(
        self,
        executor: Executor,
        clock: Callable[[], float],
        *,
        on_end: Callable[[Run, Future[Results]], None],
        on_stuck: Callable[[float], None],
    ) -> None:
        """Keep the parts; ``on_end`` is called on this loop, once a run, whatever became of it.

        ``on_stuck`` gets the seconds that a run has gone on although it was told to end.  Such a
        run counts no longer, since nobody waits for it and nobody knows whether it ever ends.
        """
        self._executor = executor
        self._clock = clock
        self._on_end = on_end
        self._on_stuck = on_stuck
        self._loop = asyncio.get_running_loop()
        self._running: set[Run] = set()

    def __len__(self) -> int:
        """Return how many runs have not ended."""
        return len(self._running)

    @property
    def busy(self) -> int:
        """How many runs still hold a thread; the loop may not have heard of the others' end."""
        return sum(run.future is None or not run.future.done() for run in self._running)

    def jobs(self) -> Iterator[Job]:
        """Return the jobs that wait for a run's end."""
        return (job for run in self._running for job in run.jobs if not job.gone)

    def launch(self, run: Run, attempt: Attempt) -> None:
        """Hand a run to a thread."""
        self._running.add(run)
        try:
            run.future = self._executor.submit(work, run, attempt, self._clock)
        except RuntimeError as error:
            # The executor has been shut down.
            run.future = Future()
            run.future.set_exception(error)
        run.future.add_done_callback(partial(self._wake, run))

    def _wake(self, run: Run, future: Future[Results]) -> None:
        """Wake the loop, once a batch; called on the thread that ran it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended, run, future)

    def _ended(self, run: Run, future: Future[Results]) -> None:
        self._running.discard(run)
        self._on_end(run, future)

    def drop(self, job: Job, run: Run) -> None:
        """Let a job of a run go; a run that nobody waits for any more is ended."""
        run.drop(job)
        if run.living:
            return
        run.stop.stop()
        if run.future is not None and not run.future.cancel():
            self._loop.call_later(STUCK_AFTER, self._check, run, self._clock())

    def _check(self, run: Run, stopped_at: float) -> None:
        if run in self._running:
            self._running.discard(run)
            self._on_stuck(self._clock() - stopped_at)
