"""What is live: the table of versions that answer, and how one takes another's place."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from service.batcher import BatchPolicy
from service.device import DeviceHealth
from service.entry import Entry
from service.errors import ModelNotFound, ModelNotReady
from service.lease import Lease, LiveModel
from service.lifecycle import (
    LEAVING,
    LEGAL_MOVES,
    ModelView,
    Readiness,
    Standing,
    State,
    counted,
    is_ready,
)
from service.loader import LoadOptions, load_model
from service.means import Load, Means
from service.observer import Observer
from service.planning import Held
from service.repository import Found
from service.serving import ServingRules

__all__ = ["LEGAL_MOVES", "LiveModel", "ModelView", "Readiness", "Registry", "State", "is_ready"]

_log = logging.getLogger("onnxport.registry")


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
        load: Load = load_model,
    ) -> None:
        """Keep what is wanted from the start; nothing is loaded before `open`.

        Models run on ``executor`` and load on ``loads``, so that no run waits for a load.
        """
        self._readiness = readiness
        self.health = DeviceHealth()
        self._means = Means(load, options, policy, loads, executor, observer, health=self.health)
        # Changed only by the methods below, on the event loop: by name and version what answers,
        # or is to answer; a replacement stands beside the table until it is ready.
        self._models: dict[str, dict[int, Entry]] = {}
        self._rules: dict[str, ServingRules] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._leaving: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[None] | None = None
        self._closing = False
        for one in found:
            self._put(Entry(one, self._means, first=True))

    def __repr__(self) -> str:
        """Show how many versions are in which state, and how many are on their way out."""
        counts = Counter(entry.state for entry in self._entries())
        words = [f"{n} {state}" for state, n in counts.items()]
        words += [f"{len(self._leaving)} leaving"] if self._leaving else []
        return f"<Registry {', '.join(words)}>"

    async def open(self) -> None:
        """Start to load every version in the background and return at once."""
        loop = asyncio.get_running_loop()

        def lose(reason: str) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._lose_device, reason)

        self.health.on_loss(lose)
        for entry in self._entries():
            entry.report()
        self._loading = asyncio.create_task(self._load_all())

    async def until_tried(self) -> None:
        """Return when the loads that `open` has started have ended, well or not."""
        if self._loading is not None:
            await asyncio.shield(self._loading)

    async def _load_all(self) -> None:
        loads = (self._load_first(name) for name in list(self._models))
        for surprise in await asyncio.gather(*loads, return_exceptions=True):
            if surprise is not None:
                _log.error("a load failed in a way that was not foreseen", exc_info=surprise)

    async def _load_first(self, name: str) -> None:
        async with self.turn(name):
            entries = self._models.get(name, {}).values()
            await self._attempt([entry for entry in entries if entry.state is State.PENDING])

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait until nobody else loads or unloads the model, and keep them waiting."""
        async with self._turns.setdefault(name, asyncio.Lock()):
            yield

    async def load(self, found: Sequence[Found], *, quiet: bool = False) -> dict[int, str]:
        """Load versions of a model and return why any failed, by version; in its turn only.

        What answers goes on answering until its replacement is READY, and stays, with the reason
        to be seen, where that fails.  ``quiet`` keeps the log free of a try that is no news.
        """
        if self._closing:
            raise ModelNotReady("the server is shutting down")
        entries = [self._stage(one, quiet=quiet) for one in found]
        await self._attempt(entries)
        return {e.found.version: e.reason for e in entries if e.state is State.FAILED}

    def _stage(self, found: Found, *, quiet: bool) -> Entry:
        entry, held = Entry(found, self._means, quiet=quiet), self._held(found)
        if held is None or held.state is not State.READY:
            self._put(entry)
        return entry

    async def _attempt(self, entries: Sequence[Entry]) -> None:
        """Load versions of one model; only when all have ended raise what was not foreseen."""
        for note in dict.fromkeys(note for entry in entries for note in entry.found.notes):
            _log.warning("model %s: %s", entries[0].found.name, note)
        ended = await asyncio.gather(*map(self._load, entries), return_exceptions=True)
        for surprise in ended:
            if surprise is not None:
                raise surprise

    async def _load(self, entry: Entry) -> None:
        try:
            await entry.load()
        finally:
            self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        """Swap one reference, and let what it meant before drain; or keep that, with the reason."""
        held = self._held(entry.found)
        if held is entry or held is None:
            return
        if entry.state is State.READY:
            self._put(entry)
            entry.report()
            self._retire(held)
        else:
            held.reason = f"its replacement failed: {entry.reason}"
            held.code = entry.code
            held.rejected = entry.found

    def held(self, name: str) -> dict[int, Held]:
        """Return what stands for each version of a model, as the plan for it needs it."""
        entries = self._models.get(name, {})
        return {
            number: Held(entry.found, entry.state, entry.reason, entry.rejected)
            for number, entry in entries.items()
        }

    @property
    def names(self) -> frozenset[str]:
        """The models of which there is a version in whatever state."""
        return frozenset(self._models)

    def expect_failure(self, name: str, version: int, reason: str) -> None:
        """Log this failure no more: another process has."""
        self._means.failures.expect(name, version, reason)

    def adopt(self, name: str, rules: ServingRules) -> None:
        """Put a model's rules in force: from now on its labels name what they say."""
        if name in self._models:
            self._rules[name] = rules

    def unload(self, name: str, versions: Iterable[int]) -> None:
        """Take versions out of service at once and let them drain; in the model's turn only."""
        for version in versions:
            entry = self._models.get(name, {}).get(version)
            if entry is not None:
                self._retire(entry)

    async def refuse(self, name: str, version: int, reason: str) -> None:
        """Serve a version no more and say why; what it still answers drains."""
        async with self.turn(name):
            held = self._models.get(name, {}).get(version)
            if held is None or held.state is State.FAILED:
                return
            self._refuse(held, reason)

    def _lose_device(self, reason: str) -> None:
        """Serve nothing more that runs on the device, at once; answers on their way fail."""
        for entry in self._entries():
            if entry.on_device:
                self._refuse(entry, reason)

    def _refuse(self, held: Entry, reason: str) -> None:
        refused = Entry(held.found, self._means, first=held.first)
        self._put(refused)
        refused.refuse(reason)
        self._retire(held)

    def _retire(self, entry: Entry) -> None:
        if entry.state in LEAVING:
            return
        entry.leave()
        task = asyncio.create_task(self._close(entry))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _close(self, entry: Entry) -> None:
        """Close a version and forget it, unless it is there to say that the server is closed."""
        await entry.aclose()
        name, version = entry.found.name, entry.found.version
        if self._held(entry.found) is not entry or self._closing:
            return
        del self._models[name][version]
        if not self._models[name]:
            del self._models[name], self._rules[name]

    def _put(self, entry: Entry) -> None:
        versions = self._models.setdefault(entry.found.name, {})
        held = versions.get(entry.found.version)
        if held is not None:
            held.stands = False
        entry.stands = True
        versions[entry.found.version] = entry
        self._rules.setdefault(entry.found.name, entry.found.rules)

    def _held(self, found: Found) -> Entry | None:
        return self._models.get(found.name, {}).get(found.version)

    def _entries(self) -> list[Entry]:
        models = self._models
        return [
            models[name][version] for name in sorted(models) for version in sorted(models[name])
        ]

    def views(self) -> tuple[ModelView, ...]:
        """Return all versions, sorted by name and version."""
        return tuple(entry.view(self._rules[entry.found.name]) for entry in self._entries())

    def view(self, name: str, version: int | None = None) -> ModelView:
        """Return the named version, or without one the highest that is ready, else the highest."""
        return self._entry(name, version).view(self._rules[name])

    def version_of_label(self, name: str, label: str) -> int:
        """Return the version that a model's label names; raises ModelNotFound if there is none."""
        labels = self._rules[name].labels if name in self._rules else {}
        version = labels.get(label)
        if version is None or version not in self._models[name]:
            raise ModelNotFound(name, label=label)
        return version

    @property
    def leaving(self) -> bool:
        """Whether everything is being closed."""
        return self._closing

    def ready(self) -> bool:
        """Whether the server as a whole should be sent traffic."""
        standing = [Standing(e.found.name, e.state, e.first) for e in self._entries()]
        return not self._closing and is_ready(counted(standing), self._readiness)

    def _entry(self, name: str, version: int | None) -> Entry:
        versions = self._models.get(name, {})
        entries = [e for number, e in versions.items() if version in (None, number)]
        if not entries:
            raise ModelNotFound(name, version)
        if len(entries) == 1:
            return entries[0]
        return max(entries, key=lambda e: (e.state is State.READY, e.found.version))

    def lease(self, name: str, version: int | None = None) -> Lease:
        """Hold a ready version open from now on; raises ModelNotFound or ModelNotReady."""
        return self._entry(name, version).lease()

    async def aclose(self) -> None:
        """Let every lease end, then close the engines."""
        self._closing = True
        if self._loading is not None:
            await self._loading
        for entry in self._entries():
            self._retire(entry)
        while self._leaving:
            await asyncio.gather(*self._leaving)
        self._means.watchdog.close()
