"""The queue of one model as its callers see it: a thin shell around the rules of `scheduling`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from service import tracing
from service.dispatcher import Dispatcher
from service.errors import ModelNotReady, Overloaded, ServiceError
from service.lane import Job, Lane, OnDone
from service.runs import Hooks, Model, RowsMismatch, late
from service.scheduling import BatchPolicy, Ran, Timings, refusal, where_to_run
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
    ) -> Job:
        """Queue checked tensors; ``on_done`` gets their answer or why there is none.

        It is called exactly once, on the loop, after this call has returned, and not any more once
        the job was cancelled.  With ``alone`` the job shares no run and is not cut.  Raises
        Overloaded if the queue is full, DeadlineExceeded if it is too late already, ModelNotReady
        if the model is on its way out; then there is no job.
        """
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
        self._admit(job)
        self._lane_for(job).append(job)
        self._delivery.open += 1
        if deadline < self._alarm.at:
            self._alarm.set(deadline, now)
        if not self._turn_is_due:
            self._take_a_turn()
        return job

    def _admit(self, job: Job) -> None:
        if self._closed:
            raise ModelNotReady("the model is being unloaded")
        if job.deadline <= job.queued_at:
            raise late()
        loop, threads = self._loop_lane, self._thread_lane
        why = refusal(
            self._policy,
            job.rows,
            job.size,
            queued_rows=loop.rows + threads.rows,
            queued_bytes=loop.size + threads.size,
        )
        if why:
            raise Overloaded(why)

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
