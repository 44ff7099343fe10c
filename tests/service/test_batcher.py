"""Which jobs run together, and that each of them is answered exactly once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batcher import Batcher, BatchPolicy, Job, Ran, take_batch
from service.errors import (
    DeadlineExceeded,
    EngineFailure,
    InvalidRequest,
    ModelNotReady,
    Overloaded,
    ServiceError,
)
from service.tensors import Tensor, Tensors
from tests.support.runtime import HandExecutor, settle

MakeJob = Callable[..., Job]
NOW = 100.0


@pytest.fixture(scope="module")
def job() -> Iterator[MakeJob]:
    """Return a maker of jobs, which need a loop for their futures, though none runs here."""
    loop = asyncio.new_event_loop()

    def make(
        rows: int = 1, key: str = "a", deadline: float = NOW + 1, *, gone: bool = False
    ) -> Job:
        done: asyncio.Future[Ran] = loop.create_future()
        if gone:
            done.cancel()
        return Job({}, (), rows, (key,), deadline, NOW, done)

    yield make
    loop.close()


def test_the_oldest_and_those_that_fit_with_it(job: MakeJob) -> None:
    """A job that does not fit stays, one behind it that does goes along; order is kept."""
    first, big, small, last = job(2), job(3), job(1), job(1)
    take = take_batch([first, big, small, last], max_rows=4, idle=1, now=NOW)
    assert take.batch == (first, small, last)
    assert take.rest == (big,)
    assert take.expired == ()


def test_a_job_over_the_limit_runs_alone(job: MakeJob) -> None:
    """The oldest runs whatever its size, since nothing would ever make room for it."""
    big, small = job(9), job(1)
    take = take_batch([big, small], max_rows=4, idle=1, now=NOW)
    assert (take.batch, take.rest) == ((big,), (small,))


def test_jobs_of_another_shape_stay(job: MakeJob) -> None:
    """One key a batch, that of the oldest job."""
    jobs = [job(key="a"), job(key="b"), job(key="a")]
    take = take_batch(jobs, max_rows=8, idle=1, now=NOW)
    assert take.batch == (jobs[0], jobs[2])
    assert take.rest == (jobs[1],)


def test_expired_and_gone_jobs_never_run(job: MakeJob) -> None:
    """A deadline that is reached has passed; a job whose caller has gone is dropped."""
    late, gone, alive = job(deadline=NOW), job(gone=True), job(deadline=NOW + 0.001)
    take = take_batch([late, gone, alive], max_rows=8, idle=1, now=NOW)
    assert (take.batch, take.expired, take.rest) == ((alive,), (late,), ())


@pytest.mark.parametrize(("idle", "taken"), [(1, 8), (2, 5), (3, 3), (9, 1), (20, 1)])
def test_an_idle_worker_takes_its_share(job: MakeJob, idle: int, taken: int) -> None:
    """Nine rows for some idle workers are shared out, rounded up."""
    take = take_batch([job() for _ in range(9)], max_rows=8, idle=idle, now=NOW)
    assert len(take.batch) == taken


def test_nothing_waits(job: MakeJob) -> None:
    """An empty queue makes an empty batch, and so does one in which all have gone."""
    for queue in ([], [job(gone=True)]):
        take = take_batch(queue, max_rows=8, idle=1, now=NOW)
        assert (take.batch, take.expired, take.rest) == ((), (), ())


KINDS = st.tuples(
    st.integers(0, 6),
    st.sampled_from("ab"),
    st.sampled_from([NOW - 1, NOW, NOW + 1]),
    st.booleans(),
)


@given(st.lists(KINDS, max_size=12), st.integers(1, 8), st.integers(1, 4))
def test_take_batch_keeps_its_promises(
    job: MakeJob, kinds: list[tuple[int, str, float, bool]], max_rows: int, idle: int
) -> None:
    """Nothing is lost, doubled or overtaken, and a batch is one that may run."""
    queue = [job(rows, key, deadline, gone=gone) for rows, key, deadline, gone in kinds]
    take = take_batch(queue, max_rows=max_rows, idle=idle, now=NOW)

    waiting = [one for one in queue if not one.done.done()]
    alive = [one for one in waiting if one.deadline > NOW]
    assert list(take.expired) == [one for one in waiting if one.deadline <= NOW]
    for part in (take.batch, take.rest):
        assert list(part) == [one for one in alive if one in part]
    assert len(take.batch) + len(take.rest) == len(alive)
    assert set(take.batch) | set(take.rest) == set(alive)

    assert take.batch[:1] == tuple(alive[:1])
    assert len({one.key for one in take.batch}) <= 1
    rows = sum(one.rows for one in take.batch)
    share = math.ceil(sum(one.rows for one in alive) / idle)
    assert rows <= min(max_rows, share) or len(take.batch) == 1
    # Greedy: the first that stays differs in shape or did not fit behind those before it.
    for one in take.rest[:1]:
        before = take.batch[: sum(alive.index(b) < alive.index(one) for b in take.batch)]
        fits = sum(b.rows for b in before) + one.rows <= min(max_rows, share)
        assert one.key != take.batch[0].key or not fits


@dataclass(slots=True)
class Doubler:
    """A model that answers y = 2 x, refuses what is negative, and counts the rows of each run."""

    refusal: Exception = field(default_factory=lambda: InvalidRequest("negative"))
    runs: list[int] = field(default_factory=list)

    def __call__(self, inputs: Tensors, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Answer, or raise."""
        x = inputs["x"]
        self.runs.append(len(x))
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
        self.batcher = Batcher(
            self.model,
            policy or BatchPolicy(),
            self.threads,
            on_batch=lambda jobs, rows, seconds: self.batches.append((jobs, rows)),
            on_queue=self.queued.append,
        )

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


async def test_a_caller_that_goes_while_its_job_runs() -> None:
    """Its neighbour in the same run gets its own rows."""
    bench = Bench()
    leaving, staying = await bench.ask_all(1, 2)
    leaving.cancel()
    await settle()
    await bench.threads.step()
    assert leaving.cancelled()
    assert answer(staying) == [4]
    assert bench.model.runs == [2]


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


async def test_a_deadline_that_passes_during_the_run() -> None:
    """The caller does not wait for the engine, and its neighbour is answered."""
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
    assert bench.model.runs == [1, 2]
    await blocker


async def test_a_full_queue() -> None:
    """What is over the limit is refused with both numbers; an empty queue takes any job."""
    bench = Bench(BatchPolicy(queue_rows=2))
    jobs = [bench.ask(*range(9)), bench.ask(*range(9))]
    await settle()
    refused = bench.ask(1)
    await settle()
    found = error(refused)
    assert isinstance(found, Overloaded)
    assert found.retry_after == 1
    assert str(found) == "Exceeds maximum queue size: 9 rows wait, at most 2 may"
    await bench.threads.step(2)
    await asyncio.gather(*jobs)


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
    assert bench.queued == [0, 2, 3]
    assert repr(bench.batcher) == "<Batcher 2 queued, 1 running>"
    await bench.threads.step(2)
    await asyncio.gather(job, *jobs)
    assert bench.queued[3:] == [0, 0]
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
