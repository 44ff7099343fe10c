"""One load of one version: from the disk to an open engine, its leases, and its end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from service.batcher import Batcher, BatchPolicy, Hooks, Model
from service.device import DeviceHealth, on_device
from service.engine import Engine, Stop
from service.errors import DeviceLost, ModelNotReady, ServiceError
from service.lifecycle import IN_PROGRESS, LEAVING, LEGAL_MOVES, ModelView, State
from service.loader import Loaded, LoadOptions, options_for
from service.logs import printable
from service.memory import give_back
from service.observer import BatchReport, Observer
from service.padding import layout_of
from service.repository import Found
from service.serving import ServingRules
from service.terms import Terms
from service.watchdog import Watchdog

_log = logging.getLogger("onnxport.registry")

Load = Callable[[Found, LoadOptions, Callable[[str], None]], Loaded]


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A version that answers: what it needs to turn a request into an answer."""

    name: str
    version: int
    loaded: Loaded
    batcher: Batcher
    terms: Terms

    @property
    def info(self) -> dict[str, object]:
        """What is known of the model, with what its runs have taught since it was loaded."""
        info = dict(self.loaded.info)
        if self.batcher.broken:
            info["batching"] = {"rows_independent": False, "why": self.batcher.broken}
        if self.batcher.moved:
            info["moved_to_threads"] = self.batcher.moved
        return info


@dataclass(frozen=True, slots=True)
class Means:
    """What every load uses: ``load`` runs on ``loads``, the model itself on ``runs`` or the loop.

    ``watchdog`` looks after all runs in the loop.
    """

    load: Load
    options: LoadOptions
    policy: BatchPolicy
    loads: Executor
    runs: Executor
    observer: Observer
    watchdog: Watchdog = field(default_factory=Watchdog)
    health: DeviceHealth = field(default_factory=DeviceHealth)


class Lease:
    """The right to use a live version until the answer is out; it is given back exactly once."""

    __slots__ = ("_give_back", "model")

    def __init__(self, model: LiveModel, give_back: Callable[[], None]) -> None:
        """Hold ``model``; ``give_back`` is called when it is no longer needed."""
        self.model = model
        self._give_back = give_back

    def release(self) -> None:
        """Give the right back."""
        self._give_back()

    def __enter__(self) -> LiveModel:
        """Return the model that is held."""
        return self.model

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the right back, whatever happened."""
        self._give_back()


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
        if self.state is State.READY and self._live is not None:
            runtime = runtime_of(self._live.loaded)
            self._means.observer.placement(
                self.found.name,
                self.found.version,
                nodes=runtime.get("nodes", {}),
                fell_back=bool(runtime.get("fell_back")),
            )

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
            if isinstance(error, DeviceLost):
                means.health.lose(str(error))
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
        self._batching = self._policy(loaded)
        loaded = replace(
            loaded,
            engine=on_device(
                loaded.engine,
                self._means.health,
                max_rows=self._batching.max_rows,
                batchable=self._batching.batchable,
            ),
        )
        batcher = self._batcher(loaded, self._batching)
        self._tell_fallback(runtime_of(loaded))
        notes = loaded.info.get("notes")
        info = {**loaded.info, "notes": [*(notes if isinstance(notes, list) else ()), *found.notes]}
        terms = Terms.of(loaded.contract)
        self._live = LiveModel(
            found.name, found.version, replace(loaded, info=info), batcher, terms
        )
        self._move(State.READY)

    def _tell_fallback(self, runtime: Mapping[str, Any]) -> None:
        """Say which provider stands in for the one that was asked for, and why."""
        if runtime.get("fell_back"):
            reasons = runtime.get("providers_unavailable", {})
            why = "; ".join(f"provider '{name}': {reason}" for name, reason in reasons.items())
            _log.warning(
                "model %s version %d: runs on '%s' instead: %s",
                self.found.name,
                self.found.version,
                runtime.get("provider"),
                printable(why),
            )

    def _policy(self, loaded: Loaded) -> BatchPolicy:
        policy, batchable = self._means.policy, loaded.contract.batchable
        if loaded.tuning is None:
            return replace(policy, batchable=batchable)
        wait = self.found.rules.batching.max_wait_ms
        return loaded.tuning.policy(policy, batchable=batchable, max_wait_ms=wait)

    def _batcher(self, loaded: Loaded, policy: BatchPolicy) -> Batcher:
        name, version, observer = self.found.name, self.found.version, self._means.observer
        hooks = Hooks(
            on_batch=lambda jobs, rows, seconds: observer.batch(
                BatchReport(name, version, jobs, rows, seconds)
            ),
            on_queue=lambda rows: observer.queue(name, version, rows),
            on_moved=lambda why: _log.warning(
                "model %s version %d: %s; it runs on threads from now on", name, version, why
            ),
            on_stuck=lambda seconds: _log.error(
                "model %s version %d: a run was told to end %.1f s ago and goes on",
                name,
                version,
                seconds,
            ),
        )
        model = Model(loaded.engine.run, Stop, layout_of(loaded.contract))
        return Batcher(model, policy, self._means.runs, self._means.watchdog, hooks)

    def _fail(self, reason: str) -> None:
        # Paths and names in a file may hold what no answer can carry.
        self.reason = printable(self.found.told(reason))
        self._move(State.FAILED)
        _log.error(
            "model %s version %d: %s", self.found.name, self.found.version, printable(reason)
        )

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

    @property
    def on_device(self) -> bool:
        """Whether it answers from a device that can be lost."""
        return self.state is State.READY and self._provider != "cpu"

    @property
    def _provider(self) -> str:
        return self._live.loaded.engine.provider if self._live else "cpu"

    def lease(self) -> Lease:
        """Hold the version open while it answers; raises ModelNotReady with its state."""
        if self._live is None or self.state is not State.READY:
            reason = f": {self.reason}" if self.reason else ""
            raise ModelNotReady(
                f"model '{self.found.name}' is not ready, it is {self.state}{reason}"
            )
        self._leases += 1
        return Lease(self._live, self._release)

    def _release(self) -> None:
        self._leases -= 1
        if not self._leases:
            self._unused.set()

    def leave(self) -> None:
        """Grant no lease from now on; nothing else may follow but `aclose`."""
        # Why it once was not replaced does not say why it goes.
        self.reason = ""
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


def runtime_of(loaded: Loaded) -> Mapping[str, Any]:
    """Return what model-info says of the session; nothing where a loader says nothing."""
    runtime = loaded.info.get("runtime")
    return runtime if isinstance(runtime, Mapping) else {}


def _close(engine: Engine) -> None:
    engine.close()
    give_back()
