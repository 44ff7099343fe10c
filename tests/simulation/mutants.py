"""Planted faults: a scheduler with each of them, and the law that must find it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from service import batcher as shell
from service import loopruns, runs
from service.batcher import Batcher, Job
from service.delivery import Delivery
from service.dispatcher import Dispatcher
from service.lane import Lane, Run
from service.padding import Layout
from service.tensors import Tensor, Tensors
from service.threads import ThreadRuns
from tests.simulation import laws


@dataclass(frozen=True)
class Mutant:
    """A fault: ``target`` gets another ``name``; ``law`` is broken by it."""

    fault: str
    law: str
    target: Any
    name: str
    replacement: Any

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Have the fault for a while."""
        right = getattr(self.target, self.name)
        setattr(self.target, self.name, self.replacement)
        try:
            yield
        finally:
            setattr(self.target, self.name, right)


def _owner(job: Job) -> Batcher:
    owner = getattr(job.leave, "__self__")  # noqa: B009 - a plain callable is not known to have one
    assert isinstance(owner, Batcher)
    return owner


_cancel = Job.cancel


def _keep_cancelled(self: Job) -> None:
    if not isinstance(self.place, Lane):
        _cancel(self)
    elif self.on_done is not None:
        self.on_done = None
        _owner(self)._delivery.open -= 1


def _answer_cancelled(self: Job) -> None:
    on_done, runs_already = self.on_done, isinstance(self.place, Run)
    _cancel(self)
    if runs_already:
        self.on_done = on_done
        _owner(self)._delivery.open += 1


def _keep_rows(self: Lane, job: Job) -> None:
    job.inputs, job.place = {}, None
    self.waiting -= 1


_enqueue = Batcher.enqueue


def _without_deadline(self: Batcher, *args: Any, **options: Any) -> Job:
    return _enqueue(self, *args, **{**options, "deadline": math.inf})


def _restart_window(self: Dispatcher, lane: Lane, now: float) -> bool:
    jobs = list(lane)
    start = jobs[-1].queued_at + self._policy.max_wait if jobs else math.inf
    if self._closed or lane.rows >= self._policy.max_rows:
        return bool(jobs)
    if now < start < math.inf:
        self._alarm.set(start, now)
    return start <= now


async def _close_at_once(self: Batcher) -> None:
    self._closed = True
    self._take_a_turn()
    await asyncio.sleep(0)


def _offset_of_jobs(tensors: Tensors, rows: Sequence[int]) -> list[dict[str, Tensor]]:
    return [
        {name: value[start : start + size] for name, value in tensors.items()}
        for start, size in enumerate(rows)
    ]


def _uncut(self: Layout, outputs: dict[str, Tensor], inputs: Tensors) -> dict[str, Tensor]:
    return outputs


_join = Layout.join


def _lengthen(self: Layout, parts: Sequence[Tensors]) -> dict[str, Tensor]:
    joined = _join(self, parts)
    if "lengths" in joined:
        joined["lengths"] = np.full_like(joined["lengths"], joined["x"].shape[1])
    return joined


def _in_one_piece(
    call: runs.Call, joined: Tensors, wanted: Sequence[str], *, rows: int, size: int
) -> dict[str, Tensor]:
    return call(joined, wanted)


def _go_on(self: ThreadRuns, job: Job, run: Run) -> None:
    run.drop(job)


def _let_wait(self: Dispatcher) -> None:
    self._take_a_turn()


def _deliver_until_trouble(self: Delivery, answers: Sequence[tuple[Job, Any]]) -> None:
    for job, answer in answers:
        on_done, job.on_done = job.on_done, None
        if on_done is not None:
            self.open -= 1
            on_done(answer)


def _let_in(*_: object, **__: object) -> str:
    return ""


def _anywhere(*_: object, **__: object) -> str:
    return "tick"


def _never(*_: object) -> bool:
    return False


def _always(*_: object) -> bool:
    return True


def _no_check(outputs: Tensors, rows: int) -> None:
    """Take what comes."""


MUTANTS = (
    Mutant("a cancelled job stays queued", laws.NOT_CANCELLED, Job, "cancel", _keep_cancelled),
    Mutant("a cancelled job's rows never return", laws.EMPTY, Lane, "drop", _keep_rows),
    Mutant("a deadline is forgotten", laws.NOT_LATE, Batcher, "enqueue", _without_deadline),
    Mutant(
        "an arrival restarts the window", laws.NO_WAIT, Dispatcher, "_may_start", _restart_window
    ),
    Mutant("closing waits for one turn", laws.CLOSED, Batcher, "aclose", _close_at_once),
    Mutant("lost rows are handed out", laws.OWN_ROWS, runs, "_check_rows", _no_check),
    Mutant("poison fails a thread's batch", laws.NEIGHBOURS, runs, "shared_blame", _never),
    Mutant("poison fails the loop's batch", laws.NEIGHBOURS, loopruns, "shared_blame", _never),
    Mutant("answers are cut by jobs, not rows", laws.OWN_ROWS, runs, "split", _offset_of_jobs),
    Mutant("who cancelled is answered", laws.ONCE, Job, "cancel", _answer_cancelled),
    Mutant("padding is handed out", laws.PADDING, Layout, "cut", _uncut),
    Mutant("lengths grow with the padding", laws.PADDING, Layout, "join", _lengthen),
    Mutant("a large job is not cut", laws.MAXIMUM, runs, "_in_pieces", _in_one_piece),
    Mutant("a run for nobody goes on", laws.ABANDONED, ThreadRuns, "drop", _go_on),
    Mutant("the timer tells nobody", laws.AT_ONCE, Dispatcher, "_expire", _let_wait),
    Mutant("everybody is let in", laws.BOUNDED, shell, "refusal", _let_in),
    Mutant("all runs in the loop", laws.SHORT, shell, "where_to_run", _anywhere),
    Mutant("dependent rows are joined", laws.ALONE, Dispatcher, "batchable", property(_always)),
    Mutant("trouble ends delivery", laws.CLOSED, Delivery, "deliver", _deliver_until_trouble),
)
