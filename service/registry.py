"""What is live: every version with its state, and the lease that keeps it open while it answers."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from service.batcher import Batcher, BatchPolicy
from service.contract import Contract
from service.errors import ModelNotFound, ModelNotReady, ServiceError
from service.loader import Loaded, LoadOptions, load_model
from service.logs import printable
from service.observer import BatchReport, Observer
from service.repository import Found
from service.showcase import Showcase
from service.tensors import TensorSpec

_log = logging.getLogger("onnxport.registry")


class State(StrEnum):
    """The life of a version; `LEGAL_MOVES` says what may follow what."""

    PENDING = "PENDING"
    LOADING = "LOADING"
    VERIFYING = "VERIFYING"
    READY = "READY"
    DRAINING = "DRAINING"
    FAILED = "FAILED"
    UNLOADED = "UNLOADED"


LEGAL_MOVES: Mapping[State, frozenset[State]] = {
    State.PENDING: frozenset({State.LOADING, State.UNLOADED}),
    State.LOADING: frozenset({State.VERIFYING, State.FAILED}),
    State.VERIFYING: frozenset({State.READY, State.FAILED}),
    State.READY: frozenset({State.DRAINING}),
    State.DRAINING: frozenset({State.UNLOADED}),
    State.FAILED: frozenset({State.UNLOADED}),
    State.UNLOADED: frozenset(),
}

_LOADING = (State.LOADING, State.VERIFYING)


@dataclass(frozen=True, slots=True)
class ModelView:
    """What anybody may know about one version, as plain values.

    ``reason`` is "" unless the version has failed; ``inputs``, ``outputs`` and ``info`` are empty
    until it has been opened, ``showcase`` and ``contract`` are None.
    """

    name: str
    version: int
    state: State
    reason: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    info: dict[str, object]
    showcase: Showcase | None = None
    contract: Contract | None = None


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


@dataclass(slots=True)
class _Entry:
    """One version; changed only on the event loop, by the registry."""

    found: Found
    state: State = State.PENDING
    reason: str = ""
    live: LiveModel | None = None
    leases: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)

    def view(self) -> ModelView:
        loaded = self.live.loaded if self.live else None
        return ModelView(
            self.found.name,
            self.found.version,
            self.state,
            self.reason,
            loaded.contract.input_specs if loaded else (),
            loaded.contract.output_specs if loaded else (),
            self.live.info if self.live else {},
            loaded.showcase if loaded else None,
            loaded.contract if loaded else None,
        )


@dataclass(frozen=True, slots=True)
class Readiness:
    """When the server as a whole is ready.

    Normally: every version has ended its first attempt and one is READY, or none is wanted.
    ``strict`` asks for all, ``requires`` for the named models.
    """

    strict: bool = False
    requires: tuple[str, ...] = ()


def is_ready(states: Sequence[tuple[str, State]], rule: Readiness) -> bool:
    """Decide readiness from the (name, state) of every wanted version."""
    ready = {name for name, state in states if state is State.READY}
    if not set(rule.requires) <= ready:
        return False
    if rule.strict:
        return all(state is State.READY for _, state in states)
    ended = all(state in (State.READY, State.FAILED) for _, state in states)
    return ended and (bool(ready) or not states)


class Registry:
    """All versions of all models of this process."""

    def __init__(
        self,
        found: Sequence[Found],
        *,
        options: LoadOptions,
        policy: BatchPolicy,
        readiness: Readiness,
        executor: Executor,
        loads: Executor,
        observer: Observer,
    ) -> None:
        """Keep what is wanted; nothing is loaded before `open`.

        Models run on ``executor`` and load on ``loads``, so that no run waits for a load.
        """
        self._options = options
        self._policy = policy
        self._readiness = readiness
        self._executor = executor
        self._loads = loads
        self._observer = observer
        # Changed only by the methods below, on the event loop.
        self._entries = {(f.name, f.version): _Entry(f) for f in found}
        self._loading: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        """Show how many versions are in which state."""
        counts = Counter(entry.state for entry in self._entries.values())
        return f"<Registry {', '.join(f'{n} {state}' for state, n in counts.items())}>"

    async def open(self) -> None:
        """Start to load every version in the background and return at once."""
        for entry in self._entries.values():
            self._observer.model_state(entry.found.name, entry.found.version, entry.state)
        self._loading = asyncio.create_task(self._load_all())

    async def _load_all(self) -> None:
        loads = (self._load(entry) for entry in self._entries.values())
        for surprise in await asyncio.gather(*loads, return_exceptions=True):
            if surprise is not None:
                _log.error("a load failed in a way that was not foreseen", exc_info=surprise)

    async def _load(self, entry: _Entry) -> None:
        loop = asyncio.get_running_loop()

        def on_step(step: str) -> None:
            loop.call_soon_threadsafe(self._move, entry, State(step))

        self._move(entry, State.LOADING)
        try:
            loaded = await loop.run_in_executor(
                self._loads, load_model, entry.found, self._options, on_step
            )
        except ServiceError as error:
            self._fail(entry, str(error))
            return
        except (OSError, MemoryError) as error:
            self._fail(entry, f"{entry.found.path}: {error}")
            return
        finally:
            # A surprise travels on to the log, but must not leave the version loading for ever.
            if sys.exception() is not None and entry.state in _LOADING:
                self._fail(entry, "internal error while loading")
        entry.live = LiveModel(
            entry.found.name, entry.found.version, loaded, self._batcher(entry, loaded)
        )
        self._move(entry, State.READY)

    def _batcher(self, entry: _Entry, loaded: Loaded) -> Batcher:
        name, version, observer = entry.found.name, entry.found.version, self._observer
        policy = self._policy
        return Batcher(
            loaded.engine.run,
            BatchPolicy(
                max_rows=policy.max_rows,
                queue_rows=policy.queue_rows,
                # One dispatcher is best on a GPU: calls share the device and queue there.
                concurrency=1 if loaded.engine.provider == "cuda" else policy.concurrency,
                batchable=loaded.contract.batchable,
            ),
            self._executor,
            on_batch=lambda jobs, rows, seconds: observer.batch(
                BatchReport(name, version, jobs, rows, seconds)
            ),
            on_queue=lambda rows: observer.queue(name, version, rows),
        )

    def _fail(self, entry: _Entry, reason: str) -> None:
        # Paths and names in a file may hold what no answer can carry.
        entry.reason = printable(reason)
        self._move(entry, State.FAILED)
        _log.error("model %s version %d: %s", entry.found.name, entry.found.version, entry.reason)

    def _move(self, entry: _Entry, state: State) -> None:
        if state not in LEGAL_MOVES[entry.state]:
            # A thread's late report of a step that has already ended.
            return
        entry.state = state
        self._observer.model_state(entry.found.name, entry.found.version, state)
        if state is not State.FAILED:
            _log.info("model %s version %d: %s", entry.found.name, entry.found.version, state)

    def views(self) -> tuple[ModelView, ...]:
        """Return all versions, sorted by name and version."""
        return tuple(self._entries[key].view() for key in sorted(self._entries))

    def view(self, name: str, version: int | None = None) -> ModelView:
        """Return the named version, or without one the highest that is ready, else the highest."""
        return self._entry(name, version).view()

    def version_of_label(self, name: str, label: str) -> int:
        """Return the version that a label stands for; raises ModelNotFound: none has a label."""
        self._entry(name, None)
        raise ModelNotFound(name, label=label)

    def ready(self) -> bool:
        """Whether the server as a whole should be sent traffic."""
        states = [(entry.found.name, entry.state) for entry in self._entries.values()]
        return is_ready(states, self._readiness)

    def _entry(self, name: str, version: int | None) -> _Entry:
        entries = [
            entry
            for (known, number), entry in self._entries.items()
            if known == name and version in (None, number)
        ]
        if not entries:
            raise ModelNotFound(name, version)
        return max(entries, key=lambda e: (e.state is State.READY, e.found.version))

    @contextmanager
    def lease(self, name: str, version: int | None = None) -> Iterator[LiveModel]:
        """Hold a ready version open; raises ModelNotFound or ModelNotReady with its state."""
        entry = self._entry(name, version)
        if entry.live is None or entry.state is not State.READY:
            reason = f": {entry.reason}" if entry.reason else ""
            raise ModelNotReady(f"model '{name}' is not ready, it is {entry.state}{reason}")
        entry.leases += 1
        try:
            yield entry.live
        finally:
            entry.leases -= 1
            if not entry.leases:
                entry.unused.set()

    async def aclose(self) -> None:
        """Let every lease end, then close the engines."""
        if self._loading is not None:
            await self._loading
        for entry in self._entries.values():
            await self._unload(entry)

    async def _unload(self, entry: _Entry) -> None:
        live = entry.live
        if live is not None:
            self._move(entry, State.DRAINING)
            while entry.leases:
                entry.unused.clear()
                await entry.unused.wait()
            await live.batcher.aclose()
            live.loaded.engine.close()
            entry.live = None
        self._move(entry, State.UNLOADED)
