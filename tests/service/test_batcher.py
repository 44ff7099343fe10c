"""Which jobs run together, and that each of them is answered exactly once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from service.access import caller_name
from service.batcher import Batcher, BatchPolicy, Hooks, Job, Model, Ran
from service.errors import (
    DeadlineExceeded,
    EngineFailure,
    InvalidRequest,
    ModelNotReady,
    Overloaded,
    QuotaExceeded,
    ServiceError,
)
from service.tensors import Tensor, Tensors
from tests.support.batching import ANY_WIDTH, HandStop, HandWatchdog
from tests.support.runtime import HandExecutor, settle


@dataclass(slots=True)
class Doubler:
    """A model that answers y = 2 x, refuses what is negative, and counts the rows of each run."""

    refusal: Exception = field(default_factory=lambda: InvalidRequest("negative"))
    runs: list[int] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def __call__(self, inputs: Tensors, wanted: Sequence[str], stop: HandStop) -> dict[str, Tensor]:
        """Answer, or raise."""
        x = inputs["x"]
        self.runs.append(len(x))
        self.meanwhile()
        if (x < 0).any():
            raise self.refusal
        return dict.fromkeys(wanted, x * 2)


class Bench:
    """A batcher over a doubler whose threads work by hand."""

    def __init__(self, policy: BatchPolicy | None = None, model: Doubler | None = None) -> None:
        """Build the parts."""
        self.model = model or Doubler()
        self.threads = HandExecutor()
        self.batches: list[tuple[int, int]] = []
        self.queued: list[int] = []
        self.watchdog = HandWatchdog()
        self.moves: list[str] = []
        self.stops: list[HandStop] = []
        self.batcher = Batcher(
            Model(self.model, self.new_stop, ANY_WIDTH),
            policy or BatchPolicy(),
            self.threads,
            self.watchdog,
            Hooks(
                on_batch=lambda jobs, rows, seconds: self.batches.append((jobs, rows)),
                on_queue=self.queued.append,
                on_moved=self.moves.append,
            ),
        )

    def new_stop(self) -> HandStop:
        """Return a stop that can be looked at later; the first one is the loop's."""
        self.stops.append(HandStop())
        return self.stops[-1]

    def ask(self, *numbers: float, seconds: float = 60, width: int = 1) -> asyncio.Task[Ran]:
        """Send a job with one row a number."""
        x = np.repeat(np.asarray(numbers, np.float32)[:, None], width, axis=1)
        deadline = time.monotonic() + seconds
        return asyncio.create_task(
            self.batcher.submit({"x": x}, ["y"], rows=len(numbers), deadline=deadline)
        )

    async def ask_all(self, *numbers: float) -> list[asyncio.Task[Ran]]:
        """Send jobs of one row that queue behind a first one, which runs and is answered."""
        blocker = self.ask(0)
        await settle()
        jobs = [self.ask(number) for number in numbers]
        await settle()
        await self.threads.step()
        await blocker
        self.model.runs.clear()
        self.batches.clear()
        return jobs


def answer(task: asyncio.Task[Ran]) -> list[float]:
    """Return the answer's first column."""
    column: list[float] = task.result().outputs["y"][:, 0].tolist()
    return column


def error(task: asyncio.Task[Ran]) -> ServiceError:
    """Return the error that a job was answered with."""
    found = task.exception()
    assert isinstance(found, ServiceError)
    return found


async def test_jobs_that_queued_together_run_together() -> None:
    """What waited while the engine was busy is one run, and each gets its own rows."""
    bench = Bench()
    jobs = await bench.ask_all(1, 2, 3)
    await bench.threads.step()
    assert [answer(job) for job in jobs] == [[2], [4], [6]]
    assert bench.model.runs == [3]
    assert bench.batches == [(3, 3)]
    assert [job.result().timings.batch_rows for job in jobs] == [3, 3, 3]


async def test_an_idle_engine_starts_at_once() -> None:
    """Nobody waits for company."""
    bench = Bench()
    job = bench.ask(4, 5)
    await settle()
    assert len(bench.threads.waiting) == 1
    await bench.threads.step()
    assert answer(job) == [8, 10]


async def test_as_many_runs_at_once_as_there_are_threads() -> None:
    """Two of them run two jobs side by side; what comes then waits and runs together."""
    bench = Bench(BatchPolicy(concurrency=2))
    first = [bench.ask(1), bench.ask(2)]
    await settle()
    later = [bench.ask(number) for number in (3, 4, 5)]
    await settle()
    assert len(bench.threads.waiting) == 2
    await bench.threads.step(3)
    await asyncio.gather(*first, *later)
    assert bench.model.runs == [1, 1, 3]
    assert [answer(job) for job in later] == [[6], [8], [10]]


async def test_the_wait_for_a_thread_is_no_part_of_the_run() -> None:
    """While the threads work for other models a job queues, and its timings say so."""
    bench = Bench()
    before = time.monotonic()
    job = bench.ask(1)
    await settle()
    handed = time.monotonic()
    while time.monotonic() - handed <= handed - before:
        pass
    waited = time.monotonic() - handed
    await bench.threads.step()
    assert job.result().timings.queue >= waited
    assert job.result().timings.infer >= 0


async def test_other_shapes_and_other_outputs_go_to_other_runs() -> None:
    """Rows of different widths cannot be stacked, and a run has one list of outputs."""
    bench = Bench()
    blocker = bench.ask(0)
    await settle()
    narrow, wide, narrow_too = bench.ask(1), bench.ask(2, width=3), bench.ask(3)
    await settle()
    await bench.threads.step(3)
    await asyncio.gather(blocker, narrow, wide, narrow_too)
    assert bench.model.runs == [1, 2, 1]
    assert [answer(job) for job in (narrow, wide, narrow_too)] == [[2], [4], [6]]


async def test_a_large_job_is_run_in_pieces() -> None:
    """More rows than a run may have are cut, and the answer is whole and in order."""
    bench = Bench(BatchPolicy(max_rows=4))
    job = bench.ask(*range(10))
    await settle()
    await bench.threads.step()
    assert bench.model.runs == [4, 4, 2]
    assert answer(job) == [2 * number for number in range(10)]


async def test_a_job_without_rows_is_answered() -> None:
    """An empty batch axis is a run like any other."""
    bench = Bench()
    job = bench.ask()
    await settle()
    await bench.threads.step()
    assert answer(job) == []
    assert bench.model.runs == [0]


async def test_rows_that_depend_on_each_other_are_never_joined_or_cut() -> None:
    """Without independent rows every job is one run, in one piece."""
    bench = Bench(BatchPolicy(max_rows=2, batchable=False))
    jobs = [bench.ask(1, 2, 3), bench.ask(4), bench.ask(5)]
    await settle()
    await bench.threads.step(3)
    assert [answer(job) for job in jobs] == [[2, 4, 6], [8], [10]]
    assert bench.model.runs == [3, 1, 1]


async def test_jobs_without_rows_are_not_joined_either() -> None:
    """Empty jobs always fit together, and yet each is a run where none may be joined."""
    bench = Bench(BatchPolicy(batchable=False))
    jobs = [bench.ask() for _ in range(4)]
    await settle()
    await bench.threads.step(4)
    assert [answer(job) for job in jobs] == [[]] * 4
    assert bench.batches == [(1, 0)] * 4


@pytest.mark.parametrize("refusal", [InvalidRequest("no"), EngineFailure("broken")])
async def test_one_poisoned_row_does_not_hurt_its_neighbours(refusal: ServiceError) -> None:
    """Only the guilty job gets the model's error; all others get their answers."""
    bench = Bench(model=Doubler(refusal))
    jobs = await bench.ask_all(1, 2, -3, 4, 5)
    await bench.threads.step()
    guilty = jobs.pop(2)
    assert error(guilty) is refusal
    assert [answer(job) for job in jobs] == [[2], [4], [8], [10]]


@pytest.mark.parametrize("jobs", [1, 2, 3, 4, 7, 8, 16, 31, 32])
async def test_finding_the_guilty_one_costs_few_runs(jobs: int) -> None:
    """Among n jobs it is found by halves, wherever it stands."""
    for place in range(jobs):
        bench = Bench()
        numbers = [-1.0 if index == place else 1.0 for index in range(jobs)]
        asked = await bench.ask_all(*numbers)
        await bench.threads.step()
        assert len(bench.model.runs) <= 2 * math.ceil(math.log2(jobs)) + 1
        assert [job.exception() is not None for job in asked] == [n < 0 for n in numbers]


async def test_all_are_guilty() -> None:
    """A model that fails on everything answers every job with its error."""
    bench = Bench(model=Doubler(EngineFailure("broken")))
    jobs = await bench.ask_all(-1, -2, -3, -4)
    await bench.threads.step()
    assert {str(error(job)) for job in jobs} == {"broken"}


async def test_a_surprise_answers_everybody_and_the_model_goes_on() -> None:
    """An error that nobody foresaw becomes ours, with its cause for the log."""
    surprise = ZeroDivisionError("surprise")
    bench = Bench(model=Doubler(surprise))
    jobs = await bench.ask_all(1, -2)
    await bench.threads.step()
    assert {str(error(job)) for job in jobs} == {"the model could not be run"}
    assert error(jobs[0]).__cause__ is surprise
    after = bench.ask(3)
    await settle()
    await bench.threads.step()
    assert answer(after) == [6]


async def test_threads_that_take_no_work() -> None:
    """An executor that has been shut down is an answer too, not a silence."""
    bench = Bench()

    def refuse(*arguments: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    bench.threads.submit = refuse  # type: ignore[method-assign, assignment] # as a closed executor
    job = bench.ask(1)
    await settle()
    assert isinstance(error(job), EngineFailure)


async def test_a_caller_that_goes_while_its_job_waits() -> None:
    """Its job never runs, and the others do not notice."""
    bench = Bench()
    blocker = bench.ask(0)
    await settle()
    leaving, staying = bench.ask(1), bench.ask(2)
    await settle()
    leaving.cancel()
    await settle()
    await bench.threads.step(2)
    assert leaving.cancelled()
    assert answer(staying) == [4]
    assert bench.model.runs == [1, 1]
    await blocker


async def test_a_caller_that_goes_while_its_job_is_with_a_thread() -> None:
    """A thread that has not begun leaves its rows out."""
    bench = Bench()
    leaving, staying = await bench.ask_all(1, 2)
    leaving.cancel()
    await settle()
    await bench.threads.step()
    assert leaving.cancelled()
    assert answer(staying) == [4]
    assert bench.model.runs == [1]


async def test_a_caller_that_goes_while_its_job_runs() -> None:
    """Its neighbour in the same run gets its own rows, and the run is not ended."""
    bench = Bench()
    leaving, staying = await bench.ask_all(1, 2)
    bench.model.meanwhile = leaving.cancel
    await bench.threads.step()
    assert leaving.cancelled()
    assert answer(staying) == [4]
    assert bench.model.runs == [2]
    assert not any(stop.stopped for stop in bench.stops)


async def test_a_run_that_nobody_waits_for_is_ended() -> None:
    """The last caller's leaving stops it, and its failure is nobody's; the model goes on."""
    bench = Bench()
    jobs = await bench.ask_all(1, 2)
    running = bench.threads.waiting[0].future
    assert running.set_running_or_notify_cancel()
    jobs[0].cancel()
    await settle()
    assert not bench.stops[-1].stopped
    jobs[1].cancel()
    await settle()
    assert bench.stops[-1].stopped
    running.set_exception(EngineFailure("ended"))
    bench.threads.waiting.clear()
    await settle()
    after = bench.ask(3)
    await settle()
    await bench.threads.step()
    assert answer(after) == [6]
    assert repr(bench.batcher) == "<Batcher 0 queued, 0 running>"


async def test_a_run_that_nobody_waits_for_is_not_begun() -> None:
    """What a thread has not taken up yet is taken back."""
    bench = Bench()
    jobs = await bench.ask_all(1, 2)
    for job in jobs:
        job.cancel()
    await settle()
    assert bench.threads.waiting[0].future.cancelled()
    assert bench.batches == []
    assert repr(bench.batcher) == "<Batcher 0 queued, 0 running>"


async def test_an_ended_run_is_not_looked_into() -> None:
    """Halves of a batch whose stop was used would fail as it did."""
    bench = Bench(model=Doubler(EngineFailure("ended")))
    jobs = await bench.ask_all(1, 2, -3, 4)
    bench.model.meanwhile = bench.stops[-1].stop
    await bench.threads.step()
    assert {str(error(job)) for job in jobs} == {"ended"}
    assert bench.model.runs == [4]


async def test_a_deadline_that_has_passed_at_the_door() -> None:
    """The job is answered without a run."""
    bench = Bench()
    job = bench.ask(1, seconds=-1)
    await settle()
    assert isinstance(error(job), DeadlineExceeded)
    assert not bench.threads.waiting


async def test_a_deadline_that_passes_in_the_queue() -> None:
    """The caller hears of it at once, not when the engine is free, and the job costs no run."""
    bench = Bench()
    blocker = bench.ask(0)
    await settle()
    job = bench.ask(1, seconds=0.01)
    with pytest.raises(DeadlineExceeded):
        await job
    assert len(bench.threads.waiting) == 1
    await bench.threads.step()
    await blocker
    assert not bench.threads.waiting
    assert bench.model.runs == [1]


async def test_a_deadline_that_passes_with_a_thread() -> None:
    """The caller does not wait for the thread, and its neighbour is answered."""
    bench = Bench()
    blocker = bench.ask(0)
    await settle()
    hasty, patient = bench.ask(1, seconds=0.2), bench.ask(2)
    await settle()
    await bench.threads.step()
    assert bench.queued[-1] == 0
    with pytest.raises(DeadlineExceeded):
        await hasty
    await bench.threads.step()
    assert answer(patient) == [4]
    assert bench.model.runs == [1, 1]
    await blocker


async def test_a_full_queue() -> None:
    """What is over the limit is refused with both numbers; an empty queue takes any job."""
    bench = Bench(BatchPolicy(queue_rows=2))
    jobs = [bench.ask(*range(9))]
    await settle()
    jobs.append(bench.ask(*range(9)))
    await settle()
    refused = bench.ask(1)
    await settle()
    found = error(refused)
    assert isinstance(found, Overloaded)
    assert found.retry_after == 1
    assert str(found) == "Exceeds maximum queue size: 9 rows wait, at most 2 may"
    await bench.threads.step(2)
    await asyncio.gather(*jobs)


async def test_a_queue_that_is_too_slow_for_a_deadline() -> None:
    """Who could not be answered in time is told so at once, and when to come again."""
    now = 100.0
    threads = HandExecutor()
    model = Model(Doubler(), HandStop, ANY_WIDTH)
    policy = BatchPolicy(max_rows=2)
    batcher = Batcher(model, policy, threads, HandWatchdog(), clock=lambda: now)

    def ask(seconds: float) -> asyncio.Task[Ran]:
        x = np.ones((2, 1), np.float32)
        return asyncio.create_task(batcher.submit({"x": x}, ["y"], rows=2, deadline=now + seconds))

    jobs = [ask(600) for _ in range(12)]
    await settle()
    for _ in range(4):
        # Two rows in two seconds.
        now += 2
        await threads.step()
    assert batcher.pace.rate == pytest.approx(1)
    # Seven jobs of two rows wait: 14 seconds, and two of its own.
    assert batcher.queued_rows == 14
    hasty, patient = ask(15), ask(17)
    await settle()
    found = error(hasty)
    assert isinstance(found, Overloaded)
    assert found.retry_after == 14
    assert "about 16.00 s, and 15.00 s are left" in str(found)
    assert not patient.done()
    await threads.step(9)
    await asyncio.gather(*jobs, patient)
    # The queue is empty again, and nobody is refused whatever was seen.
    last = ask(0.5)
    await settle()
    await threads.step()
    assert answer(last) == [2, 2]


async def test_a_key_leaves_room_for_others() -> None:
    """None has more waiting than is free; parts of one request are let in together."""
    bench = Bench(BatchPolicy(queue_rows=12))
    blocker = bench.ask(0)
    await settle()

    def ask(key: str, rows: int = 1, *, follows: bool = False) -> Job:
        token = caller_name.set(key)
        try:
            return bench.batcher.enqueue(
                {"x": np.ones((rows, 1), np.float32)}, ["y"], rows=rows,
                deadline=time.monotonic() + 60, on_done=lambda _: None, follows=follows,
            )  # fmt: skip
        finally:
            caller_name.reset(token)

    greedy = [ask("greedy") for _ in range(6)]
    with pytest.raises(QuotaExceeded, match="key 'greedy': 6 rows wait") as found:
        ask("greedy")
    assert found.value.retry_after == 1
    for _ in range(3):
        ask("polite")
    with pytest.raises(QuotaExceeded, match="key 'polite': 3 rows wait"):
        ask("polite")
    # Who has none waiting is always let in while there is room, and so is the rest of a request.
    ask("newcomer")
    ask("newcomer", follows=True)
    # What is given up, or taken to be run, is free again.
    for job in greedy:
        job.cancel()
    ask("greedy")
    await bench.threads.step(2)
    await blocker
    for _ in range(6):
        ask("greedy")
    await settle()
    await bench.threads.step()
    await bench.batcher.aclose()


async def test_a_queue_up_to_its_limit() -> None:
    """Rows are counted, not jobs, and the limit itself is allowed."""
    bench = Bench(BatchPolicy(queue_rows=3))
    blocker = bench.ask(0)
    await settle()
    jobs = [bench.ask(1, 2), bench.ask(3)]
    await settle()
    refused = bench.ask(4)
    await settle()
    assert isinstance(error(refused), Overloaded)
    await bench.threads.step(2)
    await asyncio.gather(blocker, *jobs)


async def test_jobs_without_rows_fill_the_queue() -> None:
    """Even what carries nothing takes a place, or nothing would bound the queue."""
    bench = Bench(BatchPolicy(queue_rows=2))
    blocker = bench.ask(0)
    await settle()
    jobs = [bench.ask(), bench.ask()]
    await settle()
    refused = bench.ask()
    await settle()
    assert isinstance(error(refused), Overloaded)
    await bench.threads.step(2)
    await asyncio.gather(blocker, *jobs)


async def test_jobs_that_have_gone_make_room() -> None:
    """A cancelled job does not hold its place in the queue."""
    bench = Bench(BatchPolicy(queue_rows=1))
    blocker = bench.ask(0)
    await settle()
    leaving = bench.ask(1)
    await settle()
    leaving.cancel()
    await settle()
    coming = bench.ask(2)
    await settle()
    await bench.threads.step(2)
    assert answer(coming) == [4]
    await blocker


async def test_the_length_of_the_queue_is_told() -> None:
    """Whoever watches hears of every change in rows."""
    bench = Bench()
    job = bench.ask(0)
    await settle()
    jobs = [bench.ask(1, 2), bench.ask(3)]
    await settle()
    assert bench.queued == [3]
    assert repr(bench.batcher) == "<Batcher 2 queued, 1 running>"
    await bench.threads.step(2)
    await asyncio.gather(job, *jobs)
    assert bench.queued == [3, 0]
    assert repr(bench.batcher) == "<Batcher 0 queued, 0 running>"


async def test_closing_answers_what_waits_and_runs() -> None:
    """New jobs are refused at once; the others are answered before the closing ends."""
    bench = Bench()
    running = bench.ask(1)
    await settle()
    waiting = bench.ask(2)
    await settle()
    closing = asyncio.create_task(bench.batcher.aclose())
    await settle()
    refused = bench.ask(3)
    await settle()
    assert isinstance(error(refused), ModelNotReady)
    assert not closing.done()
    await bench.threads.step()
    assert answer(running) == [2]
    assert not closing.done()
    await bench.threads.step()
    assert answer(waiting) == [4]
    assert closing.done()


async def test_closing_what_is_idle() -> None:
    """Nothing runs, so nothing is waited for."""
    await Bench().batcher.aclose()
