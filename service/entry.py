"""One load of one version: from the disk to an open engine, its leases, and its end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from service.batcher import Batcher, BatchPolicy
from service.engine import Engine
from service.errors import ModelNotReady, ServiceError
from service.lifecycle import IN_PROGRESS, LEAVING, LEGAL_MOVES, ModelView, State
from service.loader import Loaded, LoadOptions, options_for
from service.logs import printable
from service.memory import give_back
from service.observer import BatchReport, Observer
from service.repository import Found
from service.serving import ServingRules

_log = logging.getLogger("onnxport.registry")

Load = Callable[[Found, LoadOptions, Callable[[str], None]], Loaded]


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A version that answers: what it needs to turn a request into an answer."""

    name: str
    version: int
    loaded: Loaded
    batcher: Batcher

    @property
    def info(self) -> dict[str, object]:
        """What is known of the model, with what its runs have taught since it was loaded."""
        if not self.batcher.broken:
            return self.loaded.info
        batching = {"rows_independent": False, "why": self.batcher.broken}
        return {**self.loaded.info, "batching": batching}


@dataclass(frozen=True, slots=True)
class Means:
    """What every load uses: ``load`` runs on ``loads``, the model itself on ``runs``."""

    load: Load
    options: LoadOptions
    policy: BatchPolicy
    loads: Executor
    runs: Executor
    observer: Observer


class Entry:
    """A version on its way through the states; changed only on the event loop.

    ``first`` says that it was wanted from the start, ``stands`` that it is what its name and
    version mean: a replacement stands only when it is ready, and its forerunner no longer.  Only
    an entry that stands is observed.
    """

    def __init__(self, found: Found, means: Means, *, first: bool = False) -> None:
        """Begin in PENDING, with nothing open."""
        self.found = found
        self.first = first
        self.stands = False
        self.state = State.PENDING
        self.reason = ""
        self._means = means
        self._live: LiveModel | None = None
        self._batching: BatchPolicy | None = None
        self._leases = 0
        self._unused = asyncio.Event()

    def __repr__(self) -> str:
        """Show what matters when a version does not go away."""
        return f"<Entry {self.found.name}/{self.found.version} {self.state}, {self._leases} leases>"

    def view(self, rules: ServingRules) -> ModelView:
        """Return what is known, under the rules that are in force for the model."""
        loaded = self._live.loaded if self._live else None
        return ModelView(
            self.found.name,
            self.found.version,
            self.state,
            self.reason,
            loaded.contract.input_specs if loaded else (),
            loaded.contract.output_specs if loaded else (),
            self._live.info if self._live else {},
            rules,
            self._batching,
            loaded.engine.provider if loaded else "",
            loaded.showcase if loaded else None,
            loaded.contract if loaded else None,
        )

    def report(self) -> None:
        """Tell the observer the state."""
        self._means.observer.model_state(self.found.name, self.found.version, self.state)

    async def load(self) -> None:
        """Open and prove the version: READY, or FAILED with a reason; raises only surprises."""
        loop, means = asyncio.get_running_loop(), self._means

        def on_step(step: str) -> None:
            loop.call_soon_threadsafe(self._move, State(step))

        self._move(State.LOADING)
        options = options_for(self.found, means.options)
        try:
            loaded = await loop.run_in_executor(
                means.loads, means.load, self.found, options, on_step
            )
        except ServiceError as error:
            self._fail(str(error))
            return
        except (OSError, MemoryError) as error:
            self._fail(f"{self.found.path}: {error}")
            return
        finally:
            # A surprise travels on to the log, but must not leave the version loading for ever.
            if sys.exception() is not None and self.state in IN_PROGRESS:
                self._fail("internal error while loading")
        self._answer_with(loaded)

    def refuse(self, reason: str) -> None:
        """End in FAILED without a try."""
        self._move(State.LOADING)
        self._fail(reason)

    def _answer_with(self, loaded: Loaded) -> None:
        found = self.found
        self._batching = replace(
            self._means.policy,
            # One dispatcher is best on a GPU: calls share the device and queue there.
            concurrency=1 if loaded.engine.provider == "cuda" else self._means.policy.concurrency,
            batchable=loaded.contract.batchable,
        )
        batcher = self._batcher(loaded, self._batching)
        notes = loaded.info.get("notes")
        info = {**loaded.info, "notes": [*(notes if isinstance(notes, list) else ()), *found.notes]}
        self._live = LiveModel(found.name, found.version, replace(loaded, info=info), batcher)
        self._move(State.READY)

    def _batcher(self, loaded: Loaded, policy: BatchPolicy) -> Batcher:
        name, version, observer = self.found.name, self.found.version, self._means.observer
        return Batcher(
            loaded.engine.run,
            policy,
            self._means.runs,
            on_batch=lambda jobs, rows, seconds: observer.batch(
                BatchReport(name, version, jobs, rows, seconds)
            ),
            on_queue=lambda rows: observer.queue(name, version, rows),
        )

    def _fail(self, reason: str) -> None:
        # Paths and names in a file may hold what no answer can carry.
        self.reason = printable(reason)
        self._move(State.FAILED)
        _log.error("model %s version %d: %s", self.found.name, self.found.version, self.reason)

    def _move(self, state: State) -> None:
        if state not in LEGAL_MOVES[self.state]:
            # A thread's late report of a step that has already ended.
            return
        self.state = state
        beside = ""
        if self.stands:
            self.report()
        else:
            beside = " (replaced)" if state in LEAVING else " (replacement)"
        if state is not State.FAILED:
            _log.info(
                "model %s version %d: %s%s", self.found.name, self.found.version, state, beside
            )

    @contextmanager
    def lease(self) -> Iterator[LiveModel]:
        """Hold the version open while it answers; raises ModelNotReady with its state."""
        if self._live is None or self.state is not State.READY:
            reason = f": {self.reason}" if self.reason else ""
            raise ModelNotReady(
                f"model '{self.found.name}' is not ready, it is {self.state}{reason}"
            )
        self._leases += 1
        try:
            yield self._live
        finally:
            self._leases -= 1
            if not self._leases:
                self._unused.set()

    def leave(self) -> None:
        """Grant no lease from now on; nothing else may follow but `aclose`."""
        self._move(State.DRAINING)

    async def aclose(self) -> None:
        """Let every lease end, then give the engine's memory back: UNLOADED."""
        live = self._live
        if live is not None:
            while self._leases:
                self._unused.clear()
                await self._unused.wait()
            await live.batcher.aclose()
            self._live = None
            # Not on the pool of the loads: a long load must not keep this memory from the next.
            await asyncio.to_thread(_close, live.loaded.engine)
        self._move(State.UNLOADED)


def _close(engine: Engine) -> None:
    engine.close()
    give_back()
