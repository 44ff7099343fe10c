"""One simulated run of a scenario, and the laws that it must keep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from service.batcher import Batcher, Hooks, Model, Ran
from service.errors import EngineFailure, ServiceError
from service.lane import Stop
from service.scheduling import LOOP_BOUND
from service.tensors import Tensor, Tensors
from tests.simulation.laws import CLOSED, ONCE, Caller, LawBroken, Laws
from tests.simulation.loop import Stalled, VirtualThreads
from tests.simulation.model import answer
from tests.simulation.scenario import LAYOUTS, Request, Scenario, draw
from tests.support.batching import HandStop, HandWatchdog

# Seconds that a slow run takes more than others.
SLOW = 0.05


class World(Laws):
    """The model, the threads and the callers around a batcher."""

    def __init__(self, scenario: Scenario, batcher: type[Batcher] = Batcher) -> None:
        """Build the parts; ``batcher`` may be one with a fault."""
        super().__init__(scenario)
        self._batcher_type = batcher
        self._random = Random(~scenario.seed)
        self._threads = VirtualThreads(
            self.loop, self._thread_wait, self._thread_begins, self._thread_ends
        )
        self._watchdog = HandWatchdog()
        self._runs = 0
        self._on_threads = 0
        self._enqueuing = False

    def play(self) -> None:
        """Let the scenario happen and check it; raises the first LawBroken."""
        try:
            self.loop.run(self._main())
        except Stalled as stalled:
            self.broken(CLOSED, str(stalled))
        self.check_end()
        if self.violations:
            raise self.violations[0]

    # What happens.

    async def _main(self) -> None:
        scenario = self.scenario
        self.batcher = self._batcher_type(
            Model(self._run, HandStop, LAYOUTS[scenario.kind]),
            scenario.policy,
            self._threads,
            self._watchdog,
            Hooks(on_queue=self._on_queue),
            clock=self.loop.time,
        )
        come = self.loop.create_future()
        for request in scenario.requests:
            self.loop.call_at(request.at, self._ask, request, come)
        if scenario.close_at is None:
            await come
        else:
            closing = self.loop.create_future()
            self.loop.call_at(scenario.close_at, closing.set_result, None)
            await closing
        self.closed = True
        await self.batcher.aclose()
        for caller in self.callers.values():
            if caller.job and not caller.gone:
                self.broken(CLOSED, f"closed before {caller.request}")
        if not come.done():
            await come

    def _ask(self, request: Request, come: asyncio.Future[None]) -> None:
        now = self.loop.time()
        caller = Caller(request, now + request.patience, now, self.blocked)
        waiting = [one for one in self.callers.values() if one.job and not one.gone]
        self.callers[request.number] = caller
        self._enqueuing = True
        try:
            caller.job = self.batcher.enqueue(
                request.inputs,
                request.wanted,
                rows=request.rows,
                deadline=caller.deadline,
                on_done=lambda seen: self._answered(caller, seen),
                alone=request.alone,
            )
        except ServiceError as refused:
            caller.refused = refused
            self.check_refusal(caller, waiting)
        else:
            self.check_queue(request)
        self._enqueuing = False
        if caller.job and request.cancel_after is not None:
            self.loop.call_later(request.cancel_after, self._cancel, caller)
        if len(self.callers) == len(self.scenario.requests):
            come.set_result(None)

    def _cancel(self, caller: Caller) -> None:
        assert caller.job is not None
        if not caller.answers:
            caller.cancelled = True
        caller.job.cancel()

    def _answered(self, caller: Caller, seen: Ran | ServiceError) -> None:
        if self._enqueuing:
            self.broken(ONCE, f"an answer within enqueue: {caller.request}")
        caller.answers.append(seen)
        caller.answered_at = self.loop.time()
        if caller.request.clumsy:
            raise ZeroDivisionError("the caller's own")

    def _on_queue(self, rows: int) -> None:
        self.told = rows

    # The threads and the model.

    def _thread_wait(self) -> float:
        return self._random.random() * 0.001 if self._random.random() < 0.5 else 0.0

    def _thread_begins(self) -> None:
        self._note_full()
        self._on_threads += 1

    def _thread_ends(self, notes: list[tuple[Stop, list[Caller]]]) -> None:
        self._note_full()
        self._on_threads -= 1
        self.check_abandoned(notes)

    def _note_full(self) -> None:
        if self._on_threads >= self.scenario.policy.concurrency:
            self.full_until = self.loop.time()

    def _run(self, inputs: Tensors, wanted: Sequence[str], stop: Stop) -> dict[str, Tensor]:
        scenario, inside = self.scenario, self._threads.inside
        number, self._runs = self._runs, self._runs + 1
        seconds = scenario.seconds + scenario.row_seconds * len(inputs["x"])
        if number in scenario.slow:
            seconds += SLOW
        owners = self.owners(inputs)
        self.check_start(inputs, wanted, owners, inside=inside)
        if inside:
            self._threads.notes.append((stop, owners))
            self._threads.busy += seconds
        else:
            self._pass_in_loop(seconds, stop)
        if number in scenario.broken:
            self.surprised = True
            # It ends the whole run: who would have come after it, and may still wait, is not seen.
            self._threads.notes.clear()
            raise ZeroDivisionError("nobody foresaw it")
        outputs = answer(inputs, wanted)
        if number in scenario.lossy and self._is_shared(inputs):
            self.lost = True
            return {name: value[:-1] for name, value in outputs.items()}
        return outputs

    def _pass_in_loop(self, seconds: float, stop: Stop) -> None:
        over = seconds > LOOP_BOUND
        if over:
            self._watchdog.bite()
            self.over += 1
            if not self.scenario.deaf:
                seconds = 2 * LOOP_BOUND
        self.blocked += seconds
        self.loop.advance(seconds)
        if over and not self.scenario.deaf:
            raise EngineFailure("ended by its stop")

    def _is_shared(self, inputs: Tensors) -> bool:
        """Whether the rows of a run are counted: they are cut up, or could be."""
        rows = len(inputs["x"])
        owners = self.owners(inputs)
        alone = any(caller.request.alone for caller in owners)
        return rows > 0 and self.batcher.batchable and not alone and bool(owners)


def broken_in(seeds: range) -> list[str]:
    """Return what breaks a law in these seeds."""
    found = []
    for seed in seeds:
        try:
            World(draw(seed)).play()
        except LawBroken as broken:
            found.append(str(broken))
    return found
