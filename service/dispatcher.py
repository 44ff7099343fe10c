"""From lanes to runs: what the turns of one event loop make of the jobs that wait."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from functools import partial

from service.alarm import Alarm
from service.delivery import Delivery
from service.lane import Job, Lane, Outcome, Run
from service.loopruns import LoopRuns
from service.pace import Pace
from service.runs import Hooks, Model, Results, RowsMismatch, Watch, failure, late
from service.scheduling import BatchPolicy, fair_share, loop_rows, split_failed, start_at
from service.threads import ThreadRuns


class Dispatcher:
    """The lanes of one model and the runs that empty them, in the loop and on engine threads.

    Lives on the event loop that made it; every method must be called there.
    """

    def __init__(
        self,
        model: Model,
        policy: BatchPolicy,
        executor: Executor,
        watchdog: Watch,
        hooks: Hooks | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the parts; ``clock`` must have the base of the deadlines, read on any thread."""
        self._model = model
        self._policy = policy
        self._hooks = hooks or Hooks()
        self._clock = clock
        self._loop = loop = asyncio.get_running_loop()
        # Changed only by the methods below, on the event loop.
        self.broken = ""
        self.moved = ""
        self.pace = Pace()
        self._loop_lane = Lane()
        self._thread_lane = Lane()
        self._runs = ThreadRuns(executor, clock, on_end=self._ended, on_stuck=self._stuck)
        self._loop_runs = LoopRuns(model, watchdog, self._hooks.on_stuck)
        self._delivery = Delivery(loop, self._quiet)
        self._alarm = Alarm(loop, self._expire)
        self._told_rows = 0
        self._turn_is_due = False
        self._closed = False
        self._empty = asyncio.Event()

    def __repr__(self) -> str:
        """Show the counts that matter when something hangs."""
        queued = self._loop_lane.waiting + self._thread_lane.waiting
        return f"<{type(self).__name__} {queued} queued, {len(self._runs)} running>"

    @property
    def batchable(self) -> bool:
        """Whether rows of different jobs may share a run; `broken` says why no longer."""
        return self._policy.batchable and not self.broken

    @property
    def queued_rows(self) -> int:
        """How many rows wait; a job without rows counts as one."""
        return self._loop_lane.rows + self._thread_lane.rows

    @property
    def queued_bytes(self) -> int:
        """How many bytes of tensors wait."""
        return self._loop_lane.size + self._thread_lane.size

    def _take_a_turn(self) -> None:
        """Look at the queue when all has arrived that this turn of the loop brings."""
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        # Threads first: they work while the loop runs its own batch.
        if self._thread_lane.waiting:
            self._dispatch()
        now = self._clock()
        batch = self._take_for_loop(now) if self._loop_lane.waiting else []
        try:
            self._tell_queue()
        finally:
            # The last: it answers, and a caller's error ends this turn.
            if batch:
                self._run_here(batch, now)
            else:
                self._quiet()

    def _tell_queue(self) -> None:
        rows = self.queued_rows
        if rows != self._told_rows:
            self._told_rows = rows
            self._hooks.on_queue(rows)

    def _quiet(self) -> None:
        """Tell who waits for the end that it is reached."""
        if self._closed and not self._delivery.open and not len(self._runs):
            self._empty.set()

    def _may_start(self, lane: Lane, now: float) -> bool:
        """Whether the oldest job has waited for company long enough; if not, when to look again."""
        if self._policy.max_wait <= 0 or not lane.waiting:
            return lane.waiting > 0
        oldest = next(iter(lane)).queued_at
        start = start_at(self._policy, lane.rows, oldest, closing=self._closed)
        if start > now:
            self._alarm.set(start, now)
        return start <= now

    def _dispatch(self) -> None:
        """Start runs while an engine thread is free and jobs wait."""
        lane, policy = self._thread_lane, self._policy
        now, idle = self._clock(), policy.concurrency - self._runs.busy
        while idle > 0 and self._may_start(lane, now):
            share = fair_share(lane.rows, idle, policy.max_rows)
            take = lane.take(limit=share, now=now, together=self.batchable)
            if take.batch:
                self._launch([take.batch])
                idle -= 1
            self._delivery.too_late(take.expired)

    def _keep_busy(self) -> None:
        """Give work to threads whose end the loop has not heard of yet.

        A turn of a flooded loop takes long.  Were they to wait for its end, more and more callers
        would be refused by a model that has ever less to do.
        """
        if self._thread_lane.waiting and self._runs.busy < len(self._runs):
            self._dispatch()

    def _launch(self, parts: list[list[Job]]) -> None:
        run = Run(parts, self._model.new_stop())
        attempt = partial(
            self._model.attempt,
            stop=run.stop,
            max_rows=self._policy.max_rows,
            together=self.batchable,
        )
        self._runs.launch(run, attempt)

    def _ended(self, run: Run, future: Future[Results]) -> None:
        jobs, rows = run.end(), run.rows
        now = self._clock()
        if future.cancelled():
            results = Results([], now, now)
        elif (error := future.exception()) is not None:
            # A surprise, or threads that are gone: nobody may be left waiting all the same.
            results = Results([(job, failure(error)) for job in jobs], now, now)
        else:
            results = future.result()
        self._note_broken(results.outcomes)
        # The threads first: what they do next needs no answer to be out.
        self._dispatch()
        try:
            self._tell_queue()
        finally:
            self._finish(results, rows)

    def _stuck(self, seconds: float) -> None:
        """Go on without a run that does not end; others of the model may."""
        try:
            self._hooks.on_stuck(seconds)
        finally:
            self._dispatch()
            self._quiet()

    def _take_for_loop(self, now: float) -> list[Job]:
        """Take one batch to run here; what is left has the next turn, so that others get theirs."""
        lane = self._loop_lane
        if not self._may_start(lane, now):
            return []
        take = lane.take(limit=loop_rows(self._policy), now=now, together=self.batchable)
        if lane.waiting:
            self._take_a_turn()
        self._delivery.too_late(take.expired)
        return take.batch

    def _run_here(self, batch: list[Job], started: float) -> None:
        outcomes = self._loop_runs.outcomes(
            batch, max_rows=self._policy.max_rows, together=self.batchable
        )
        over = self._loop_runs.was_over(self._clock())
        if over and not self.moved and self._loop_runs.strikes >= self._policy.tick_strikes:
            self._move()
        if outcomes is None:
            # The loop has lost enough time with them: threads find who is to blame, or finish.
            self._launch([batch] if over else [list(half) for half in split_failed(batch)])
            return
        self._note_broken(outcomes)
        rows = sum([job.rows for job in batch])
        self._finish(Results(outcomes, started, self._clock()), rows)

    def _move(self) -> None:
        """Leave the loop for good: the model has shown that it can take too long for it."""
        self.moved = "runs in the event loop took longer than they may"
        self._thread_lane.merge(self._loop_lane)
        self._loop_lane.clear()
        self._loop.call_soon(self._hooks.on_moved, self.moved)
        self._take_a_turn()

    def _note_broken(self, outcomes: Iterable[tuple[Job, Outcome]]) -> None:
        for _, outcome in outcomes:
            if isinstance(outcome, RowsMismatch):
                self.broken = str(outcome)

    def _finish(self, results: Results, rows: int) -> None:
        """Report a run that has ended, if it was one, and answer its jobs."""
        jobs = len(results.outcomes)
        try:
            if jobs:
                self._hooks.on_batch(jobs, rows, results.ended - results.started)
                traces = [job.trace for job, _ in results.outcomes if job.trace is not None]
                if traces:
                    self._hooks.on_traced(traces, rows, results.started, results.ended)
        finally:
            waiting = self._loop_lane.waiting or self._thread_lane.waiting
            self.pace.note(
                rows or jobs, started=results.started, ended=results.ended, waiting=bool(waiting)
            )
            # Who watches must not keep anybody from the answer.
            self._delivery.finish(results, rows)

    def _drop(self, job: Job) -> None:
        place = job.place
        if isinstance(place, Lane):
            place.drop(job)
        elif isinstance(place, Run):
            self._runs.drop(job, place)

    def _expire(self) -> None:
        """Answer everybody whose deadline has passed, wherever the job is."""
        now, soonest = self._clock(), math.inf
        expired = []
        for job in [*self._loop_lane, *self._thread_lane, *self._runs.jobs()]:
            if job.deadline <= now:
                job.gone = True
                self._drop(job)
                expired.append((job, late()))
            else:
                soonest = min(soonest, job.deadline)
        if soonest < math.inf:
            self._alarm.set(soonest, now)
        self._take_a_turn()
        self._delivery.deliver(expired)
