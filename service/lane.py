"""Jobs that wait, and jobs that run: who they are and what they hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from service.access import caller_name
from service.errors import ServiceError
from service.scheduling import Ran, Take, take_batch
from service.tensors import Tensor, Tensors
from service.tracing import Trace

Outcome = dict[str, Tensor] | ServiceError
OnDone = Callable[[Ran | ServiceError], None]
# So many jobs that have gone may stay in a lane before it is worth to look for them.
_SHELLS = 32


class Stop(Protocol):
    """Ends a run from another thread."""

    @property
    def stopped(self) -> bool:
        """Whether the run was told to end."""
        ...

    def stop(self) -> None:
        """Tell the run to end; one that has not begun is not begun."""
        ...


class Job:
    """One accepted request; its ``on_done`` is called exactly once unless it is cancelled.

    ``key`` is what it has in common with jobs that may share its run, None if it shares none.  A
    job that is ``gone`` is not to be run: its caller has left, or hears that it is too late.
    """

    # A plain class: a job is made for every request, and a frozen dataclass costs three times it.
    __slots__ = (
        "caller", "deadline", "gone", "inputs", "key", "leave", "on_done", "place", "queued_at",
        "rows", "size", "trace", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        inputs: Tensors,
        wanted: tuple[str, ...],
        *,
        rows: int,
        key: Hashable | None,
        deadline: float,
        queued_at: float,
        on_done: OnDone,
        leave: Callable[[Job], None],
    ) -> None:
        """Keep what was asked, and by whom; ``leave`` is told that the caller has gone."""
        self.caller = caller_name.get()
        self.inputs = inputs
        self.wanted = wanted
        self.rows = rows
        # A loop, since a sum over a generator takes twice as long.
        self.size = 0
        for value in inputs.values():
            self.size += value.nbytes
        self.key = key
        self.deadline = deadline
        self.queued_at = queued_at
        self.on_done: OnDone | None = on_done
        self.leave = leave
        self.gone = False
        self.place: Lane | Run | None = None
        # Only where the spans of its request are sent.
        self.trace: Trace | None = None

    def cancel(self) -> None:
        """Give the answer up: it costs nothing more, and ``on_done`` is not called any more."""
        if self.on_done is not None:
            self.on_done = None
            self.gone = True
            self.leave(self)


class Lane:
    """Jobs in the order in which they came, and how many wait with how many rows and bytes."""

    __slots__ = ("_jobs", "by_caller", "rows", "size", "waiting")

    def __init__(self) -> None:
        """Begin empty."""
        self._jobs: deque[Job] = deque()
        # Rows that wait for each key that has any.
        self.by_caller: dict[str, int] = {}
        self.waiting = 0
        self.rows = 0
        self.size = 0

    def __iter__(self) -> Iterator[Job]:
        """Return the jobs that wait for an answer, the oldest first."""
        return (job for job in self._jobs if not job.gone)

    def append(self, job: Job) -> None:
        """Put a job behind the others."""
        self._jobs.append(job)
        job.place = self
        self.waiting += 1
        self.rows += job.rows or 1
        self.size += job.size
        if job.caller:
            self.by_caller[job.caller] = self.by_caller.get(job.caller, 0) + (job.rows or 1)

    def drop(self, job: Job) -> None:
        """Let a job go that is gone while it waited."""
        self._release(job)
        # It stays as a shell until somebody passes by, but holds no tensors.
        job.inputs = {}
        if len(self._jobs) > _SHELLS + 2 * self.waiting:
            self._jobs = deque(self)

    def take(self, *, limit: int, now: float, together: bool) -> Take[Job]:
        """Take the next batch out, and with it those that have expired before it."""
        take = take_batch(self._jobs, limit=limit, now=now, together=together)
        for _ in range(take.seen):
            self._jobs.popleft()
        if take.passed:
            self._jobs.extendleft(reversed(take.passed))
        for job in take.batch:
            self._release(job)
        for job in take.expired:
            self._release(job)
        return take

    def merge(self, others: Iterable[Job]) -> None:
        """Take jobs of another lane over, each in the place that its age gives it."""
        joined = sorted((*self, *others), key=_age)
        self._jobs.clear()
        self.waiting = self.rows = self.size = 0
        self.by_caller.clear()
        for job in joined:
            self.append(job)

    def clear(self) -> None:
        """Forget all jobs: somebody else has taken them over."""
        self._jobs.clear()
        self.waiting = self.rows = self.size = 0
        self.by_caller.clear()

    def _release(self, job: Job) -> None:
        job.place = None
        self.waiting -= 1
        self.rows -= job.rows or 1
        self.size -= job.size
        if job.caller:
            left = self.by_caller[job.caller] - (job.rows or 1)
            if left:
                self.by_caller[job.caller] = left
            else:
                del self.by_caller[job.caller]


class Run:
    """A batch on its way through a thread; ``parts`` are run one after the other."""

    __slots__ = ("future", "jobs", "living", "parts", "rows", "stop")

    def __init__(self, parts: list[list[Job]], stop: Stop) -> None:
        """Take the jobs, which from now on may leave early."""
        self.parts = parts
        self.jobs = [job for part in parts for job in part]
        self.rows = sum([job.rows for job in self.jobs])
        self.living = len(self.jobs)
        self.stop = stop
        self.future: Future[Any] | None = None
        for job in self.jobs:
            job.place = self

    def drop(self, job: Job) -> None:
        """Let a job go that is gone."""
        job.place = None
        self.living -= 1

    def end(self) -> list[Job]:
        """Let go of the jobs, which hold the run in turn, and return them."""
        jobs = self.jobs
        for job in jobs:
            job.place = None
        self.jobs, self.parts = [], []
        return jobs


def _age(job: Job) -> float:
    return job.queued_at
