"""The laws of the scheduler, each with its name, and what has to be seen to check them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np

from service.batcher import Batcher, Job, Ran, RowsMismatch
from service.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotReady,
    Overloaded,
    ServiceError,
)
from service.lane import Stop
from service.pace import estimated_wait, hopeless
from service.scheduling import loop_rows
from service.tensors import Tensors
from tests.simulation.loop import VirtualLoop
from tests.simulation.model import answer
from tests.simulation.scenario import CODE, Request, Scenario

ONCE = "every request is answered exactly once"
OWN_ROWS = "rows go back to who sent them"
NOT_LATE = "nothing starts after its deadline"
NOT_CANCELLED = "nothing starts after its cancel"
EMPTY = "queued rows and bytes return to 0"
MAXIMUM = "no batch is above the maximum"
NO_WAIT = "the head of an idle instance's queue waits no longer than max_wait"
CLOSED = "after close everything accepted is answered"
NEIGHBOURS = "a neighbour of a poison row is served"
PADDING = "padding never changes an answer"
BOUNDED = "the queue is bounded, and nobody is refused while there is room"
SHORT = "the loop runs only what is short"
ALONE = "rows that depend on each other share no run"
ABANDONED = "a run that nobody waits for is ended"
AT_ONCE = "who is late hears it at once"
UNSEEN = "nothing goes wrong unseen"
# Timers may ring a thousandth late, a thread may begin another one late, and numbers are rounded.
_LATE = 0.0011


class LawBroken(Exception):
    """A law does not hold; ``law`` is its name, and the seed replays it."""

    def __init__(self, law: str, text: str) -> None:
        """Name the law and what was seen."""
        super().__init__(f"{law}: {text}")
        self.law = law


@dataclass(slots=True)
class Caller:
    """What a caller has seen so far; ``blocked_at`` is how long the loop had been blocked."""

    request: Request
    deadline: float
    queued_at: float
    blocked_at: float
    job: Job | None = None
    answers: list[Ran | ServiceError] = field(default_factory=list)
    answered_at: float = 0.0
    cancelled: bool = False
    refused: ServiceError | None = None
    started: bool = False

    @property
    def gone(self) -> bool:
        """Whether it waits no longer."""
        return self.cancelled or bool(self.answers)


class Laws:
    """What is known of a run, and every law as a check that notes what breaks it."""

    batcher: Batcher

    def __init__(self, scenario: Scenario) -> None:
        """Begin with nothing seen."""
        self.scenario = scenario
        self.loop = VirtualLoop(Random(scenario.seed + 1))
        self.callers: dict[int, Caller] = {}
        self.violations: list[LawBroken] = []
        # Until when every instance was busy, and how many seconds the loop was blocked in all.
        self.full_until = -1.0
        self.blocked = 0.0
        self.lost = self.surprised = self.closed = False
        self.over = 0
        self.told = 0

    def broken(self, law: str, text: str) -> None:
        """Note that a law is broken: what is raised here might be caught by whom it accuses."""
        where = f"seed {self.scenario.seed}, {self.loop.time():.6f} s: {text}"
        self.violations.append(LawBroken(law, where))

    def owners(self, inputs: Tensors) -> list[Caller]:
        """Return whose rows a run holds, by the rows themselves."""
        x = inputs["x"]
        numbers = {abs(code) // CODE - 1 for code in x[:, 0].tolist()}
        return [self.callers[number] for number in sorted(numbers)]

    def check_queue(self, request: Request) -> None:
        """A job that was let in either fits, or found the queue empty."""
        most = max(self.scenario.policy.queue_rows, request.rows)
        if self.batcher.queued_rows > most:
            self.broken(BOUNDED, f"{self.batcher.queued_rows} rows wait, at most {most} may")

    def check_refusal(self, caller: Caller, waiting: Sequence[Caller]) -> None:
        """Only a queue that is full, closed or too slow for the deadline refuses."""
        policy, request = self.scenario.policy, caller.request
        if isinstance(caller.refused, ModelNotReady) and self.closed:
            return
        requests = [one.request for one in waiting if not one.started]
        rows = sum(max(1, one.rows) for one in [*requests, request])
        size = sum(v.nbytes for one in [*requests, request] for v in one.inputs.values())
        full = rows > policy.queue_rows or size > policy.queue_bytes
        queued = rows - max(1, request.rows)
        why = full or self._is_hopeless(caller, queued)
        if not isinstance(caller.refused, Overloaded) or not requests or not why:
            self.broken(BOUNDED, f"{caller.refused!r} for {request}")

    def _is_hopeless(self, caller: Caller, queued: int) -> bool:
        """Whether the pace that was seen leaves no time to answer behind so many rows."""
        pace, rows = self.batcher.pace, max(1, caller.request.rows)
        wait = estimated_wait(queued, rows, rate=pace.rate, run_seconds=pace.run_seconds)
        return bool(hopeless(wait, caller.deadline - self.loop.time()))

    def check_start(
        self, inputs: Tensors, wanted: Sequence[str], owners: Sequence[Caller], *, inside: bool
    ) -> None:
        """What runs is alive, its own, not too much, and did not wait without need."""
        for caller in owners:
            self._check_alive(caller)
            if tuple(wanted) != caller.request.wanted:
                self.broken(OWN_ROWS, f"{wanted} are not the outputs of {caller.request}")
            if not caller.started:
                caller.started = True
                self._check_wait(caller)
        dependent = not self.scenario.policy.batchable or any(c.request.alone for c in owners)
        if dependent and len(owners) > 1:
            self.broken(ALONE, f"{[c.request for c in owners]} in one run")
        self._check_size(inputs, owners, inside=inside)

    def _check_alive(self, caller: Caller) -> None:
        now = self.loop.time()
        if caller.cancelled:
            self.broken(NOT_CANCELLED, f"{caller.request} started at {now}")
        elif caller.answers or caller.deadline <= now:
            self.broken(NOT_LATE, f"{caller.request} started at {now}")

    def _check_wait(self, caller: Caller) -> None:
        may_wait = max(caller.queued_at + self.scenario.policy.max_wait, self.full_until)
        slack = 2 * _LATE + self.blocked - caller.blocked_at
        if self.loop.time() > may_wait + slack:
            self.broken(NO_WAIT, f"{caller.request} could have started at {may_wait}")

    def _check_size(self, inputs: Tensors, owners: Sequence[Caller], *, inside: bool) -> None:
        policy, (rows, width) = self.scenario.policy, inputs["x"].shape
        if not inside:
            long = policy.tick_length is not None and width > policy.tick_length
            if long and self.scenario.kind != "fixed":
                self.broken(SHORT, f"{width} steps in the loop, at most {policy.tick_length} may")
            if self.over >= policy.tick_strikes or policy.run != "tick":
                self.broken(SHORT, "a run in the loop of a model that does not belong there")
            if rows > loop_rows(policy):
                self.broken(SHORT, f"{rows} rows in the loop, at most {loop_rows(policy)} may")
        whole = len(owners) == 1 and (owners[0].request.alone or not self.batcher.batchable)
        if rows > policy.max_rows and not whole:
            self.broken(MAXIMUM, f"{rows} rows in a run, at most {policy.max_rows} may")

    def check_abandoned(self, runs: Sequence[tuple[Stop, list[Caller]]]) -> None:
        """A run that ends although all callers have left was told to."""
        callers = [caller for _, owners in runs for caller in owners]
        # Jobs without rows cannot be seen in a run, and may be who it goes on for.
        if any(not request.rows for request in self.scenario.requests):
            return
        if callers and all(caller.gone for caller in callers) and not runs[0][0].stopped:
            self.broken(ABANDONED, f"{[caller.request for caller in callers]}")

    def check_end(self) -> None:
        """Everybody has one answer, the right one, and nothing is left."""
        for caller in self.callers.values():
            wanted = 0 if caller.refused or caller.cancelled else 1
            if len(caller.answers) != wanted:
                self.broken(ONCE, f"{len(caller.answers)} answers for {caller}")
            elif wanted:
                self._check_answer(caller, caller.answers[0])
        queue = (self.batcher.queued_rows, self.batcher.queued_bytes, self.told)
        if any(queue) or "0 queued, 0 running" not in repr(self.batcher):
            self.broken(EMPTY, f"rows, bytes and told rows are {queue} in {self.batcher!r}")
        clumsy = sum(
            caller.request.clumsy and bool(caller.answers) for caller in self.callers.values()
        )
        if len(self.loop.errors) != clumsy:
            self.broken(UNSEEN, f"{self.loop.errors}")

    def _check_answer(self, caller: Caller, seen: Ran | ServiceError) -> None:
        request = caller.request
        poison = request.poison is not None
        if isinstance(seen, Ran):
            if poison:
                self.broken(NEIGHBOURS, f"an answer for poison: {request}")
            else:
                self._check_outputs(request, seen)
        elif isinstance(seen, DeadlineExceeded):
            slack = _LATE + self.blocked - caller.blocked_at
            if not -1e-9 <= caller.answered_at - caller.deadline <= slack:
                self.broken(AT_ONCE, f"{request} heard at {caller.answered_at}")
        elif isinstance(seen, InvalidRequest):
            if not poison:
                self.broken(NEIGHBOURS, f"{seen!r} for {request}")
        elif not (self.lost if isinstance(seen, RowsMismatch) else self.surprised):
            self.broken(NEIGHBOURS, f"{seen!r} for {request}")

    def _check_outputs(self, request: Request, seen: Ran) -> None:
        expected = answer(request.inputs, request.wanted)
        alike = expected.keys() == seen.outputs.keys() and all(
            np.array_equal(value, seen.outputs[name]) for name, value in expected.items()
        )
        if alike:
            return
        found = seen.outputs.get("z")
        own = found is not None and np.array_equal(found[:, :1], expected["z"][:, :1])
        law = PADDING if own else OWN_ROWS
        self.broken(law, f"{seen.outputs} are not {expected}, the answer to {request}")
