"""The one road of a request, whatever protocol brought it: lease, check, batch, answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from service.answers import answers
from service.batcher import Ran, Timings
from service.calls import CHUNK, Call, calls_for
from service.errors import DeadlineExceeded, InvalidRequest, ServiceError, TooLarge
from service.inference import Inference, OnDone, Prediction
from service.observer import Observer
from service.pipeline import Row
from service.registry import LiveModel, Registry
from service.tensors import Tensors

Prepare = Callable[[LiveModel], list[Row]]


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer an instance, ready to be written as JSON."""

    model: str
    version: int
    predictions: list[object]
    timings: Timings


@dataclass(slots=True)
class _Stages:
    """Seconds a request spent in each stage, filled while it travels."""

    rows: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - started


class Predictor:
    """Answers requests from the registry's live models."""

    def __init__(
        self, registry: Registry, executor: Executor, observer: Observer, *, max_instances: int
    ) -> None:
        """Keep the parts; ``max_instances`` bounds one V1 request."""
        self._registry = registry
        self._executor = executor
        self._observer = observer
        self._max_instances = max_instances

    def start(
        self,
        name: str,
        version: int | None,
        inputs: Tensors,
        *,
        wanted: Sequence[str] | None,
        deadline: float,
        on_done: OnDone,
    ) -> Inference:
        """Begin to run the graph on its own tensors; ``on_done`` hears the outcome on the loop.

        All tensors are returned where none is named.  Raises a ServiceError if the call is refused.
        """
        inference = Inference(self._registry.lease(name, version), self._observer, on_done)
        inference.begin(inputs, wanted, deadline)
        return inference

    async def infer(
        self,
        name: str,
        version: int | None,
        inputs: Tensors,
        *,
        wanted: Sequence[str] | None,
        deadline: float,
    ) -> Prediction:
        """Run the graph as `start` does, and wait for the outcome."""
        done: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        inference = self.start(
            name, version, inputs, wanted=wanted, deadline=deadline, on_done=partial(_settle, done)
        )
        try:
            return await done
        finally:
            inference.cancel()

    async def predict(
        self, name: str, version: int | None, instances: Sequence[object], *, deadline: float
    ) -> Answered:
        """Answer JSON instances through the model's pipeline, one answer an instance."""

        def prepare(live: LiveModel) -> list[Row]:
            if not instances:
                raise InvalidRequest("instances: empty, at least one is needed")
            if len(instances) > self._max_instances:
                raise TooLarge(
                    f"instances: {len(instances)}, at most {self._max_instances} a request"
                )
            return [_parsed(live, index, one) for index, one in enumerate(instances)]

        return await self._answer(name, version, prepare, deadline)

    async def predict_raw(
        self, name: str, version: int | None, raw: bytes, media_type: str, *, deadline: float
    ) -> Answered:
        """Answer one raw input, such as a picture, that is the whole body."""
        return await self._answer(
            name, version, lambda live: [live.loaded.pipeline.decode(raw, media_type)], deadline
        )

    async def _answer(
        self, name: str, version: int | None, prepare: Prepare, deadline: float
    ) -> Answered:
        with self._observed(name, version) as (live, stages):
            contract = live.loaded.contract
            names = [output.name for output in contract.outputs if not output.auxiliary]
            with stages.stage("preprocess"):
                calls = await self._calls(live, prepare, deadline)
            stages.rows = sum(call.rows for call in calls)
            work = [
                self._submit(live, call.inputs, names, stages, deadline, follows=index > 0)
                for index, call in enumerate(calls)
            ]
            ran = await _together(work)
            with stages.stage("postprocess"):
                predictions = [
                    answer
                    for call, one in zip(calls, ran, strict=True)
                    for answer in answers(contract, one.outputs, call.rows)
                ]
            timings = ran[-1].timings._replace(
                preprocess=stages.seconds["preprocess"], postprocess=stages.seconds["postprocess"]
            )
            return Answered(live.name, live.version, predictions, timings)

    async def _calls(self, live: LiveModel, prepare: Prepare, deadline: float) -> list[Call]:
        """Read and stack the instances on a thread: pictures and long texts take milliseconds."""
        contract = live.loaded.contract

        def work() -> list[Call]:
            rows = prepare(live)
            chunk = CHUNK if live.batcher.batchable else 1
            return calls_for(contract.input_specs, live.loaded.pipeline, rows, chunk=chunk)

        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await loop.run_in_executor(self._executor, work)
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed before the input was read") from error

    async def _submit(
        self,
        live: LiveModel,
        inputs: Tensors,
        names: Sequence[str],
        stages: _Stages,
        deadline: float,
        *,
        follows: bool,
    ) -> Ran:
        terms = live.terms
        ran = await live.batcher.submit(
            inputs,
            names,
            rows=terms.count_rows(inputs),
            deadline=deadline,
            alone=terms.is_alone(inputs),
            follows=follows,
        )
        stages.seconds["queue"] = ran.timings.queue
        stages.seconds["infer"] = ran.timings.infer
        return ran

    @contextmanager
    def _observed(self, name: str, version: int | None) -> Iterator[tuple[LiveModel, _Stages]]:
        """Lease the model and report how the request ended, whatever way it ends."""
        started = time.monotonic()
        with self._registry.lease(name, version) as live:
            stages, outcome = _Stages(), ServiceError.code
            try:
                yield live, stages
                outcome = "success"
            except asyncio.CancelledError:
                outcome = "cancelled"
                raise
            except ServiceError as error:
                outcome = error.code
                raise
            except ExceptionGroup as group:
                # Chunks of one request fail together; the caller gets the first one's reason.
                first = next((e for e in group.exceptions if isinstance(e, ServiceError)), None)
                if first is None:
                    raise
                outcome = first.code
                raise first from None
            finally:
                stages.seconds["total"] = time.monotonic() - started
                self._observer.request(
                    live.name,
                    live.version,
                    outcome=outcome,
                    rows=stages.rows,
                    seconds=stages.seconds,
                )


async def _together(work: Sequence[Coroutine[Any, Any, Ran]]) -> list[Ran]:
    """Run all calls of a request; if one fails, the others are cancelled."""
    if len(work) == 1:
        # Most requests are one call, and need no task beside their own.
        return [await work[0]]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
    return [task.result() for task in tasks]


def _settle(done: asyncio.Future[Prediction], outcome: Prediction | ServiceError) -> None:
    if done.done():
        return
    if isinstance(outcome, ServiceError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)


def _parsed(live: LiveModel, index: int, instance: object) -> Row:
    try:
        return live.loaded.pipeline.parse(instance)
    except (InvalidRequest, TooLarge) as error:
        raise type(error)(f"instances[{index}]: {error}") from error
