"""The queue of one model as its callers see it: a thin shell around the rules of `scheduling`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from functools import partial

from service import tracing
from service.dispatcher import Dispatcher
from service.errors import ModelNotReady, Overloaded, QuotaExceeded, ServiceError
from service.lane import Job, Lane, OnDone
from service.pace import advice, estimated_wait, hopeless
from service.runs import Hooks, Model, RowsMismatch, late
from service.scheduling import BatchPolicy, Ran, Timings, refusal, takes_too_much, where_to_run
from service.tensors import Tensors

__all__ = ["BatchPolicy", "Batcher", "Hooks", "Job", "Model", "Ran", "RowsMismatch", "Timings"]


class Batcher(Dispatcher):
    """The queue of one model: who comes, who leaves, and the end."""

    async def submit(
        self,
        inputs: Tensors,
        wanted: Sequence[str],
        *,
        rows: int,
        deadline: float,
        alone: bool = False,
        follows: bool = False,
    ) -> Ran:
        """Queue checked tensors and return their answer; with ``alone`` they run in one piece.

        Raises what `enqueue` raises, DeadlineExceeded if the answer is not there in time, and
        InvalidRequest or EngineFailure if the model refuses or fails on this job.
        """
        future: asyncio.Future[Ran] = self._loop.create_future()
        job = self.enqueue(
            inputs,
            wanted,
            rows=rows,
            deadline=deadline,
            on_done=partial(_settle, future),
            alone=alone,
            follows=follows,
        )
        try:
            return await future
        finally:
            job.cancel()

    def enqueue(
        self,
        inputs: Tensors,
        wanted: Sequence[str],
        *,
        rows: int,
        deadline: float,
        on_done: OnDone,
        alone: bool = False,
        follows: bool = False,
    ) -> Job:
        """Queue checked tensors; ``on_done`` gets their answer or why there is none.

        It is called exactly once, on the loop, after this call has returned, and not any more once
        the job was cancelled.  With ``alone`` the job shares no run and is not cut; one that
        ``follows`` is a further part of a request whose first part was let in.  Raises
        Overloaded if the queue is full, or too slow for the deadline, QuotaExceeded if the caller
        holds too much of it, DeadlineExceeded if it is too late already, ModelNotReady if the
        model is on its way out; then there is no job.
        """
        self._keep_busy()
        now = self._clock()
        wanted = tuple(wanted)
        job = Job(
            inputs,
            wanted,
            rows=rows,
            key=None if alone else self._model.layout.key(inputs, wanted),
            deadline=deadline,
            queued_at=now,
            on_done=on_done,
            leave=self._leave,
        )
        place = tracing.current.get()
        if place is not None and place.trace is not None and place.trace.recorded:
            job.trace = place.trace
        self._admit(job, follows=follows)
        self._lane_for(job).append(job)
        self._delivery.open += 1
        if deadline < self._alarm.at:
            self._alarm.set(deadline, now)
        if not self._turn_is_due:
            self._take_a_turn()
        return job

    def _admit(self, job: Job, *, follows: bool) -> None:
        if self._closed:
            raise ModelNotReady("the model is being unloaded")
        if job.deadline <= job.queued_at:
            raise late()
        loop, threads = self._loop_lane, self._thread_lane
        queued, pace = loop.rows + threads.rows, self.pace
        why = refusal(
            self._policy,
            job.rows,
            job.size,
            queued_rows=queued,
            queued_bytes=loop.size + threads.size,
        )
        if queued and not why:
            rows, left = job.rows or 1, job.deadline - job.queued_at
            wait = estimated_wait(queued, rows, rate=pace.rate, run_seconds=pace.run_seconds)
            why = hopeless(wait, left)
            if job.caller and not follows:
                self._share(job.caller, rows, queued, left)
        if why:
            raise Overloaded(why, retry_after=advice(queued, pace.rate))

    def _share(self, caller: str, rows: int, queued: int, left: float) -> None:
        """Raise QuotaExceeded if a key would hold so much of the queue that others find no room."""
        own = sum(lane.by_caller.get(caller, 0) for lane in (self._loop_lane, self._thread_lane))
        rate = self.pace.rate
        room = min(self._policy.queue_rows, rate * left if rate else math.inf)
        if takes_too_much(rows, own, queued_rows=queued, room=room):
            raise QuotaExceeded(
                f"key '{caller}': {own} rows wait, and others need room in the queue, too",
                retry_after=advice(own, rate),
            )

    def _lane_for(self, job: Job) -> Lane:
        # What shares no run is not what was calibrated.
        if self._policy.run == "threads" or job.key is None:
            return self._thread_lane
        length = self._model.layout.length(job.inputs)
        place = where_to_run(self._policy, job.rows, length, moved=bool(self.moved))
        return self._loop_lane if place == "tick" else self._thread_lane

    def _leave(self, job: Job) -> None:
        """Let a job go whose caller has gone."""
        self._delivery.open -= 1
        self._drop(job)
        self._take_a_turn()

    async def aclose(self) -> None:
        """Refuse new jobs, answer those that wait or run, and return when all are answered."""
        self._closed = True
        self._take_a_turn()
        while self._delivery.open or len(self._runs):
            self._empty.clear()
            await self._empty.wait()
        self._alarm.cancel()


def _settle(future: asyncio.Future[Ran], answer: Ran | ServiceError) -> None:
    if future.done():
        return
    if isinstance(answer, ServiceError):
        future.set_exception(answer)
    else:
        future.set_result(answer)
