"""Loads without ONNX: engines that wait at gates, and a runtime around them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from service.batcher import BatchPolicy
from service.contract import MODEL_FILE, Contract, InputContract, OutputContract, TensorPipeline
from service.engine import Stop
from service.errors import BundleError, EngineFailure
from service.lifecycle import State
from service.loader import Loaded, LoadOptions
from service.means import Load
from service.observer import Observer
from service.pipeline import make_pipeline
from service.planning import Asked, Control, at_start
from service.predictor import Predictor
from service.registry import Readiness, Registry
from service.reloader import Reloader
from service.repository import Found, scan
from service.statistics import Statistics
from service.tensors import Tensor, Tensors, TensorSpec

PATIENCE = 10.0
CONTRACT = Contract(
    task="tensor",
    inputs=[InputContract(name="x", datatype="FP32", shape=["n", 1])],
    outputs=[OutputContract(name="y", datatype="FP32", shape=["n", 1])],
    pipeline=TensorPipeline(),
    batchable=True,
)


class GatedEngine:
    """Answers y = its number, whatever x; runs wait while ``gate`` is closed."""

    provider = "cpu"

    def __init__(self, number: int, version: int) -> None:
        """Begin with an open gate."""
        self.number = number
        self.version = version
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.closed = threading.Event()
        self.inputs: tuple[TensorSpec, ...] = CONTRACT.input_specs
        self.outputs: tuple[TensorSpec, ...] = CONTRACT.output_specs

    def run(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None
    ) -> dict[str, Tensor]:
        """Wait at the gate, then answer; a closed engine fails."""
        self.begun.set()
        assert self.gate.wait(PATIENCE)
        if self.closed.is_set():
            raise EngineFailure("the engine is closed")
        return {name: np.full_like(inputs["x"], self.number) for name in wanted}

    def close(self) -> None:
        """Note it."""
        self.closed.set()


class Loads:
    """Stands in for `load_model`: the n-th load gives an engine that answers n.

    ``broken`` are the versions that fail; ``surprise`` is raised as it is.  Loads wait while
    ``gate`` is closed.
    """

    def __init__(self) -> None:
        """Begin with an open gate."""
        self.engines: list[GatedEngine] = []
        self.options: list[LoadOptions] = []
        self.broken: set[int] = set()
        self.surprise: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.count = 0

    def __call__(
        self, found: Found, options: LoadOptions, on_step: Callable[[str], None]
    ) -> Loaded:
        """Load."""
        self.count += 1
        self.options.append(options)
        self.begun.release()
        assert self.gate.wait(PATIENCE)
        on_step("VERIFYING")
        if self.surprise is not None:
            raise self.surprise
        if found.problem or found.version in self.broken:
            raise BundleError(found.problem or f"version {found.version} is broken")
        engine = GatedEngine(self.count, found.version)
        self.engines.append(engine)
        return Loaded(CONTRACT, make_pipeline(CONTRACT), engine, {"kind": "fake"})

    def prepare(
        self,
        found: Found,
        options: LoadOptions,
        fingerprint: str,
        on_step: Callable[[str], None],
    ) -> Callable[[], Loaded]:
        """Return the load, as a worker asks for it."""
        del fingerprint
        return partial(self, found, options, on_step)

    async def until_begun(self) -> None:
        """Wait until one more load has begun."""
        assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE)


@dataclass(slots=True)
class Rig:
    """A runtime whose engines are gated."""

    registry: Registry
    reloader: Reloader
    predictor: Predictor
    loads: Loads = field(default_factory=Loads)

    async def infer(self, version: int | None = None, name: str = "m") -> int:
        """Ask for one row and return which load answered."""
        deadline = time.monotonic() + PATIENCE
        row = {"x": np.zeros((1, 1), np.float32)}
        prediction = await self.predictor.infer(name, version, row, wanted=None, deadline=deadline)
        return int(prediction.outputs["y"][0, 0])

    async def until_tried(self) -> None:
        """Return when the loads of the start have ended."""
        for name in {view.name for view in self.registry.views()}:
            async with self.registry.turn(name):
                pass


def put_model(repository: Path, name: str = "m", *, versions: Sequence[int] = (1,)) -> Path:
    """Write version folders that look like models, and return the model's folder."""
    for version in versions:
        file = repository / name / str(version) / MODEL_FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return repository / name


@asynccontextmanager
async def rig(
    repository: Path,
    control: Control,
    *,
    observer: Observer | None = None,
    tried: bool = True,
    loads: Loads | None = None,
    load: Load | None = None,
    asked: Asked | None = None,
) -> AsyncIterator[Rig]:
    """Run a runtime over a repository and close it at the end.

    ``load`` is what stands around ``loads``, if anything does; ``asked`` is what has happened
    before.

    What the control says has been tried by then, unless ``tried`` is false.
    """
    watcher, loads = observer or Statistics(), loads or Loads()
    with ThreadPoolExecutor(4) as runs, ThreadPoolExecutor(4) as loading:
        registry = Registry(
            at_start(scan(repository), control, asked),
            options=LoadOptions(),
            policy=BatchPolicy(max_rows=8, queue_rows=64, concurrency=2),
            readiness=Readiness(),
            executor=runs,
            loads=loading,
            observer=watcher,
            load=load or loads,
        )
        reloader = Reloader(registry, repository, control)
        predictor = Predictor(registry, runs, watcher, max_instances=64)
        await registry.open()
        made = Rig(registry, reloader, predictor, loads)
        try:
            if tried:
                # The loads of the start take their turns first, one step of the loop from now.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                await made.until_tried()
            yield made
        finally:
            await reloader.aclose()
            await registry.aclose()


async def closed(engine: GatedEngine) -> None:
    """Wait until an engine is closed."""
    assert await asyncio.to_thread(engine.closed.wait, PATIENCE)


async def running(engine: GatedEngine) -> None:
    """Wait until a run of an engine has begun."""
    assert await asyncio.to_thread(engine.begun.wait, PATIENCE)


async def settled(made: Rig) -> None:
    """Wait until no version is on its way out any more."""
    async with asyncio.timeout(PATIENCE):
        while "leaving" in repr(made.registry):
            await asyncio.to_thread(lambda: None)


async def chance() -> None:
    """Give everything that may go on the chance to do so."""
    for _ in range(20):
        await asyncio.to_thread(lambda: None)


def states(made: Rig) -> dict[int, State]:
    """Return the states of model m's versions."""
    return {view.version: view.state for view in made.registry.views()}
