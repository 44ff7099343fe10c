"""Hand-made stand-ins for what the HTTP side talks to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.batcher import Timings
from service.errors import ModelNotFound, ServiceError
from service.inference import OnDone, Prediction
from service.planning import IndexRow
from service.predictor import Answered
from service.registry import ModelView, State
from service.tensors import Tensors, TensorSpec
from service.uploads import Upload

TIMINGS = Timings(queue=0.0, infer=0.0, batch_rows=1)


def view(name: str = "tiny", state: State = State.READY, reason: str = "") -> ModelView:
    """Return a view of version 1 of a model with one FP32 input and output."""
    specs = (TensorSpec("x", "FP32", ("n", 2)),)
    return ModelView(name, 1, state, reason, specs, specs, {"labels": None})


@dataclass(slots=True)
class FakeModels:
    """A registry whose views are given; a server is ready if one of them is."""

    known: Sequence[ModelView] = field(default_factory=lambda: (view(),))
    labels: Mapping[tuple[str, str], int] = field(default_factory=dict)
    leaving: bool = False

    def views(self) -> tuple[ModelView, ...]:
        """Return what was given."""
        return tuple(self.known)

    def view(self, name: str, version: int | None = None) -> ModelView:
        """Return the first that fits."""
        for one in self.known:
            if one.name == name and version in (None, one.version):
                return one
        raise ModelNotFound(name, version)

    def version_of_label(self, name: str, label: str) -> int:
        """Return what was given."""
        if (name, label) not in self.labels:
            raise ModelNotFound(name, label=label)
        return self.labels[name, label]

    def ready(self) -> bool:
        """Whether one is READY, and all is not about to end."""
        return not self.leaving and any(one.state is State.READY for one in self.known)


@dataclass(slots=True)
class FakeRepository:
    """A reloader that remembers what it was asked and refuses nothing."""

    rows: Sequence[IndexRow] = ()
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def index(self) -> list[IndexRow]:
        """Return what was given."""
        return list(self.rows)

    async def load(self, name: str, upload: Upload | None = None) -> None:
        """Remember it."""
        self.asked.append(("load", name))

    async def unload(self, name: str) -> None:
        """Remember it."""
        self.asked.append(("unload", name))


@dataclass(slots=True)
class HeldCall:
    """A call under way whose answer is known, and held back until it is let go."""

    on_done: OnDone
    prediction: Prediction | ServiceError
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self) -> None:
        """Let the answer go."""
        self.on_done(self.prediction)

    def cancel(self) -> None:
        """Remember it."""
        self.cancelled.set()


@dataclass(slots=True)
class EchoAnswers:
    """A predictor that answers with its inputs and remembers the deadlines it was given."""

    deadlines: list[float] = field(default_factory=list)

    async def infer(
        self,
        name: str,
        version: int | None,
        inputs: Tensors,
        *,
        wanted: Sequence[str] | None,
        deadline: float,
    ) -> Prediction:
        """Answer with the inputs that are wanted."""
        self.deadlines.append(deadline)
        outputs = {n: v for n, v in inputs.items() if wanted is None or n in wanted}
        return Prediction(name, version or 1, outputs, 1, TIMINGS)

    def start(
        self,
        name: str,
        version: int | None,
        inputs: Tensors,
        *,
        wanted: Sequence[str] | None,
        deadline: float,
        on_done: OnDone,
    ) -> HeldCall:
        """Answer with the inputs that are wanted, in the loop's next turn."""
        self.deadlines.append(deadline)
        outputs = {n: v for n, v in inputs.items() if wanted is None or n in wanted}
        call = HeldCall(on_done, Prediction(name, version or 1, outputs, 1, TIMINGS))
        asyncio.get_running_loop().call_soon(call.answer)
        return call

    async def predict(
        self, name: str, version: int | None, instances: Sequence[object], *, deadline: float
    ) -> Answered:
        """Answer with the instances."""
        self.deadlines.append(deadline)
        return Answered(name, version or 1, list(instances), TIMINGS)

    async def predict_raw(
        self, name: str, version: int | None, raw: bytes, media_type: str, *, deadline: float
    ) -> Answered:
        """Answer with what arrived."""
        self.deadlines.append(deadline)
        answer: dict[str, object] = {"bytes": len(raw), "media_type": media_type}
        return Answered(name, version or 1, [answer], TIMINGS)


@dataclass(slots=True)
class HeldAnswers(EchoAnswers):
    """A predictor that answers infer calls only when the test lets them go, by ``calls``."""

    calls: asyncio.Queue[HeldCall] = field(default_factory=asyncio.Queue)

    def start(
        self,
        name: str,
        version: int | None,
        inputs: Tensors,
        *,
        wanted: Sequence[str] | None,
        deadline: float,
        on_done: OnDone,
    ) -> HeldCall:
        """Hold the answer, which is the inputs."""
        call = HeldCall(on_done, Prediction(name, version or 1, dict(inputs), 1, TIMINGS))
        self.calls.put_nowait(call)
        return call


@dataclass(slots=True)
class StuckAnswers(EchoAnswers):
    """A predictor that never answers; ``begun`` and ``cancelled`` tell what became of a call."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def predict(
        self, name: str, version: int | None, instances: Sequence[object], *, deadline: float
    ) -> Answered:
        """Wait until cancelled."""
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Answered(name, version or 1, [], TIMINGS)


@dataclass(slots=True)
class FailingAnswers(EchoAnswers):
    """A predictor that raises what it was given."""

    error: Exception = field(default_factory=lambda: RuntimeError("the secret of the house"))

    async def predict(
        self, name: str, version: int | None, instances: Sequence[object], *, deadline: float
    ) -> Answered:
        """Raise."""
        raise self.error
