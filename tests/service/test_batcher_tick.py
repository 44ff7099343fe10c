"""Batches in the event loop: what one turn brings is one run, without a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from service.batcher import Batcher, BatchPolicy, Hooks, Job, Model, Ran
from service.errors import EngineFailure, InvalidRequest, ModelNotReady, ServiceError
from tests.service.test_batcher import Bench, Doubler, answer, error
from tests.support.batching import ANY_WIDTH, HandStop, HandWatchdog
from tests.support.runtime import HandExecutor, settle

TICK = BatchPolicy(run="tick", max_rows=8, tick_rows=4, tick_length=2, tick_strikes=1)


async def test_what_a_turn_brings_is_one_run() -> None:
    """No thread is asked, and each job gets its own rows."""
    bench = Bench(TICK)
    jobs = [bench.ask(1, 2), bench.ask(3)]
    await settle()
    assert [answer(job) for job in jobs] == [[2, 4], [6]]
    assert bench.model.runs == [3]
    assert bench.batches == [(2, 3)]
    assert not bench.threads.waiting
    assert bench.queued == []


async def test_more_than_a_run_may_have_takes_more_turns() -> None:
    """The loop gets to other things between two runs."""
    bench = Bench(TICK)
    jobs = [bench.ask(number) for number in range(6)]
    await settle()
    assert bench.model.runs == [4, 2]
    assert [answer(job) for job in jobs] == [[2 * number] for number in range(6)]


async def test_large_long_and_lonely_jobs_go_to_threads() -> None:
    """Only what was calibrated runs in the loop."""
    bench = Bench(TICK)
    large, long = bench.ask(*range(5)), bench.ask(1, width=3)
    lonely = asyncio.create_task(
        bench.batcher.submit(
            {"x": np.ones((1, 1), np.float32)},
            ["y"],
            rows=1,
            deadline=time.monotonic() + 60,
            alone=True,
        )
    )
    await settle()
    assert bench.watchdog.runs == 0
    await bench.threads.step(3)
    assert answer(large) == [0, 2, 4, 6, 8]
    assert answer(long) == answer(lonely) == [2]


@pytest.mark.parametrize("refusal", [InvalidRequest("no"), EngineFailure("broken")])
async def test_who_is_to_blame_is_found_on_threads(refusal: ServiceError) -> None:
    """The loop runs a failing batch once, and neighbours get their answers."""
    bench = Bench(TICK, Doubler(refusal))
    jobs = [bench.ask(1), bench.ask(-2), bench.ask(3)]
    await settle()
    assert bench.model.runs == [3]
    await bench.threads.step()
    assert error(jobs[1]) is refusal
    assert [answer(job) for job in (jobs[0], jobs[2])] == [[2], [6]]
    alone = bench.ask(-1)
    await settle()
    assert error(alone) is refusal
    assert not bench.threads.waiting


async def test_a_surprise_in_the_loop_answers_everybody() -> None:
    """The loop goes on, and so does the model."""
    bench = Bench(TICK, Doubler(ZeroDivisionError("surprise")))
    jobs = [bench.ask(1), bench.ask(-2)]
    await settle()
    assert {str(error(job)) for job in jobs} == {"the model could not be run"}
    after = bench.ask(3)
    await settle()
    assert answer(after) == [6]


async def test_a_run_over_its_bound_moves_the_model_to_threads() -> None:
    """Those whose run was ended are answered all the same, and nothing runs in the loop again."""
    bench = Bench(TICK, Doubler(EngineFailure("ended")))
    bench.model.meanwhile = bench.watchdog.bite
    job = bench.ask(-1)
    await settle()
    assert bench.moves == ["runs in the event loop took longer than they may"]
    assert bench.batcher.moved == bench.moves[0]
    later = bench.ask(2)
    await settle()
    bench.model.meanwhile = lambda: None
    await bench.threads.step(2)
    assert str(error(job)) == "ended"
    assert answer(later) == [4]
    assert bench.watchdog.runs == 1


async def test_one_run_over_its_bound_says_little() -> None:
    """Its callers are answered from a thread, and the model stays until it happens too often."""
    bench = Bench(replace(TICK, tick_strikes=2), Doubler(EngineFailure("ended")))
    for moved in (False, True):
        bench.model.meanwhile = bench.watchdog.bite
        job = bench.ask(-1)
        await settle()
        bench.model.meanwhile = lambda: None
        await bench.threads.step()
        assert str(error(job)) == "ended"
        assert bool(bench.batcher.moved) == moved
    assert bench.watchdog.runs == 2


async def test_a_run_that_ends_over_its_bound_is_an_answer() -> None:
    """A single node cannot be ended; what it found is not thrown away."""
    bench = Bench(TICK)
    bench.model.meanwhile = bench.watchdog.bite
    job = bench.ask(1)
    await settle()
    assert answer(job) == [2]
    assert bench.batcher.moved


async def test_what_waits_for_the_loop_moves_along() -> None:
    """A queue does not stay behind when its model leaves the loop."""
    bench = Bench(TICK)
    bench.model.meanwhile = bench.watchdog.bite
    jobs = [bench.ask(number) for number in range(6)]
    await settle()
    bench.model.meanwhile = lambda: None
    await bench.threads.step()
    assert [answer(job) for job in jobs] == [[2 * number] for number in range(6)]
    assert bench.watchdog.runs == 1


class Callbacks:
    """A batcher whose callers are called back."""

    def __init__(self, policy: BatchPolicy = TICK, hooks: Hooks | None = None) -> None:
        """Build the parts."""
        self.told: list[tuple[int, Ran | ServiceError]] = []
        model = Model(Doubler(), HandStop, ANY_WIDTH)
        self.threads = HandExecutor()
        self.batcher = Batcher(model, policy, self.threads, HandWatchdog(), hooks)

    def ask(self, number: int, also: Callable[[], object] = lambda: None) -> Job:
        """Send one row; ``also`` happens when the answer comes."""

        def on_done(seen: Ran | ServiceError) -> None:
            self.told.append((number, seen))
            also()

        x = np.full((1, 1), number, np.float32)
        deadline = time.monotonic() + 60
        return self.batcher.enqueue({"x": x}, ("y",), rows=1, deadline=deadline, on_done=on_done)

    def answers(self) -> list[tuple[int, float]]:
        """Return who was told what, in order."""
        return [(n, seen.outputs["y"][0, 0]) for n, seen in self.told if isinstance(seen, Ran)]


async def test_a_caller_is_called_back_once_and_later() -> None:
    """Not before it holds its job, and not again when it gives up what it has."""
    calls = Callbacks()
    job = calls.ask(1)
    assert calls.told == []
    await settle()
    job.cancel()
    await settle()
    assert calls.answers() == [(1, 2)]


async def test_a_job_that_is_cancelled_is_not_called_back() -> None:
    """Neither before its run nor when a neighbour's answer makes it superfluous."""
    calls = Callbacks()
    calls.ask(1).cancel()
    later: list[Job] = []

    def leave() -> None:
        later[0].cancel()

    calls.ask(2, also=leave)
    later.append(calls.ask(3))
    await settle()
    assert calls.answers() == [(2, 4)]
    await calls.batcher.aclose()


async def test_a_caller_that_fails_costs_its_neighbours_nothing() -> None:
    """The loop hears of its error; the others hear their answers."""
    calls, heard = Callbacks(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))

    def fail() -> None:
        raise ZeroDivisionError("the caller's own")

    calls.ask(1, also=fail)
    calls.ask(2)
    await settle()
    assert calls.answers() == [(1, 2), (2, 4)]
    assert [type(context["exception"]) for context in heard] == [ZeroDivisionError]
    await calls.batcher.aclose()


async def test_nobody_is_let_in_after_the_end() -> None:
    """What was refused is no job, and is not called back."""
    calls = Callbacks()
    await calls.batcher.aclose()
    with pytest.raises(ModelNotReady):
        calls.ask(1)
    await settle()
    assert calls.told == []


async def test_who_watches_and_fails_keeps_nobody_from_an_answer() -> None:
    """The loop hears of it, on both roads."""
    heard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))

    def fail(*_: object) -> None:
        raise ZeroDivisionError("the watcher's own")

    for policy in (TICK, BatchPolicy(max_rows=1)):
        calls = Callbacks(policy, Hooks(on_batch=fail, on_queue=fail))
        for number in range(6):
            calls.ask(number)
        await settle()
        while len(calls.told) < 6:
            await calls.threads.step()
        assert calls.answers() == [(number, 2 * number) for number in range(6)]
        await calls.batcher.aclose()
    assert heard
