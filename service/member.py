"""One worker among several: what it tells the others, and what it does as all of them do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from service.control import (
    Ask,
    Board,
    Condemn,
    Done,
    Drain,
    Emptied,
    Figures,
    Message,
    Order,
    Ping,
    Pong,
    Start,
    States,
    Stuck,
    VersionState,
    versions_by_key,
)
from service.errors import ModelNotFound, ServiceError
from service.fleet import worse_of
from service.guarded import Quarantine
from service.lifecycle import IN_PROGRESS, ModelView, State
from service.link import Link
from service.metrics import Metrics
from service.observer import BatchReport, LoadReport
from service.planning import IndexRow
from service.quota import Ledger
from service.registry import Registry
from service.reloader import Reloader
from service.statistics import Statistics
from service.tracing import RunTrace
from service.uploads import Upload, write_upload

_log = logging.getLogger("onnxport.worker")
# How often counters are sent unasked, so that a worker that dies takes little with it.
_EVERY: Final = 1.0
_UNTRIED: Final = IN_PROGRESS | {State.PENDING}


class Member:
    """The worker's part of everything that holds for all workers.

    It is an observer of the runtime: a change of a state is told at once, counters now and then.
    """

    def __init__(
        self, start: Start, link: Link, quarantine: Quarantine, ledger: Ledger | None = None
    ) -> None:
        """Keep what the supervisor has said first, and what is shared with the other workers."""
        self.start = start
        self.link = link
        self.quarantine = quarantine
        self.ledger = ledger
        self.leaving = False
        self.board = Board(ready=True, versions=())
        self.combined: dict[tuple[str, int], VersionState] = {}
        self._registry: Registry | None = None
        self._reloader: Reloader | None = None
        self._snapshot: Callable[[], dict[str, object]] = dict
        self._settled = False
        self._telling = False
        self._changed = False
        self._tasks: set[asyncio.Task[None]] = set()

    def join(
        self, registry: Registry, reloader: Reloader, metrics: Metrics, statistics: Statistics
    ) -> None:
        """Get to know the runtime that this worker has."""
        self._registry, self._reloader = registry, reloader

        def snapshot() -> dict[str, object]:
            return {"families": metrics.snapshot(), "statistics": statistics.snapshot()}

        self._snapshot = snapshot

    def hear(self, message: Message) -> None:
        """Do what the supervisor says."""
        if isinstance(message, Board):
            self.board = message
            self.combined = versions_by_key(message.versions)
        elif isinstance(message, Drain):
            self.leaving = True
        elif isinstance(message, Ask):
            self.link.send(Figures(message.id, self._snapshot()))
        elif isinstance(message, Order):
            self._begin(self._obey(message))
        elif isinstance(message, Ping):
            self.link.send(Pong(message.id))
        elif isinstance(message, Condemn):
            self._begin(self._condemn(message))

    def emptied(self) -> None:
        """Tell that nobody waits for an answer any more."""
        self.link.send(Emptied())

    async def report(self) -> None:
        """Send the counters about once a second, if something has been counted."""
        while not self.link.gone:
            await asyncio.sleep(_EVERY)
            if self._changed:
                self._changed = False
                self.link.send(Figures(0, self._snapshot()))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _obey(self, order: Order) -> None:
        """Load or unload; the states are told first, so that nobody knows less than the asker."""
        assert self._reloader is not None
        code = text = ""
        try:
            if order.verb == "load":
                self.quarantine.pardon(order.model)
                folder = Path(order.folder) if order.folder else None
                await self._reloader.load_from(order.model, folder)
            elif order.verb == "sync":
                await self._reloader.sync(
                    order.model, settling=order.settling, retry=order.retry, quiet=order.quiet
                )
            else:
                await self._reloader.unload(order.model)
        except ServiceError as error:
            code, text = error.code, str(error)
        finally:
            self._tell()
            self.link.send(Done(order.id, code, text))

    async def _condemn(self, message: Condemn) -> None:
        culprit = message.culprit
        if self.quarantine.condemn(culprit) and self._registry is not None:
            await self._registry.refuse(culprit.model, culprit.version, culprit.reason)

    def tell(self) -> None:
        """Tell the states of the models, once for everything that this turn of the loop brings."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        if self._registry is None:
            return
        views = self._registry.views()
        self._settled = self._settled or all(view.state not in _UNTRIED for view in views)
        states = tuple(map(_state_of, views))
        self.link.send(States(self._registry.ready(), self._settled, states))

    def model_state(self, model: str, version: int, state: str) -> None:
        """Tell the others of the change."""
        del model, version, state
        self._changed = True
        self.tell()

    def loaded(self, report: LoadReport) -> None:
        """Ignore what is told with the next counters."""

    def request(
        self,
        model: str,
        version: int,
        *,
        outcome: str,
        rows: int,
        seconds: Mapping[str, float],
    ) -> None:
        """Note that there is something to tell."""
        del model, version, outcome, rows, seconds
        self._changed = True

    def refused(self, code: str) -> None:
        """Note that there is something to tell."""
        del code
        self._changed = True

    def batch(self, report: BatchReport) -> None:
        """Ignore what ends with a request."""

    def traced(self, run: RunTrace) -> None:
        """Ignore the event."""

    def queue(self, model: str, version: int, rows: int) -> None:
        """Ignore what is no counter."""

    def stuck(self, model: str, version: int, seconds: float) -> None:
        """Tell the supervisor, which has another worker take this one's place."""
        del seconds
        self.link.send(Stuck(model, version))

    def placement(
        self, model: str, version: int, *, nodes: Mapping[str, int], fell_back: bool
    ) -> None:
        """Ignore what comes with a change of state."""


class SharedModels:
    """The models as all workers together have them: as bad as the worst."""

    def __init__(self, registry: Registry, member: Member) -> None:
        """Keep this worker's models and what is known of the others."""
        self._registry = registry
        self._member = member

    def views(self) -> tuple[ModelView, ...]:
        """Return all versions that any worker has, sorted by name and version."""
        own = {(view.name, view.version): view for view in self._registry.views()}
        combined = self._member.combined
        merged = [_combined(own.get(key), combined.get(key)) for key in sorted({*own, *combined})]
        return tuple(view for view in merged if view is not None)

    def view(self, name: str, version: int | None = None) -> ModelView:
        """Return the named version, or without one the highest that is ready, else the highest."""
        quick = self._quick_view(name, version)
        if quick is not None:
            return quick
        found = [v for v in self.views() if v.name == name and version in (None, v.version)]
        if not found:
            raise ModelNotFound(name, version)
        return max(found, key=lambda v: (v.state is State.READY, v.version))

    def _quick_view(self, name: str, version: int | None) -> ModelView | None:
        """Return this worker's view where the others do not change it, as for most requests."""
        try:
            own = self._registry.view(name, version)
        except ModelNotFound:
            return None
        seen = _combined(own, self._member.combined.get((own.name, own.version)))
        return seen if seen is own and own.state is State.READY else None

    def version_of_label(self, name: str, label: str) -> int:
        """Return the version that a label stands for; raises ModelNotFound."""
        return self._registry.version_of_label(name, label)

    @property
    def leaving(self) -> bool:
        """Whether the server is about to end."""
        return self._member.leaving or self._registry.leaving

    def ready(self) -> bool:
        """Whether all workers are ready."""
        return not self.leaving and self._registry.ready() and self._member.board.ready


def _state_of(view: ModelView) -> VersionState:
    return VersionState(view.name, view.version, view.state.value, view.reason, view.code)


def _combined(own: ModelView | None, all_: VersionState | None) -> ModelView | None:
    if all_ is None or own is None:
        if own is not None or all_ is None:
            return own
        state = State(all_.state)
        return ModelView(all_.model, all_.version, state, all_.reason, (), (), {}, code=all_.code)
    mine = _state_of(own)
    found = worse_of(mine, all_)
    if found is mine:
        return own
    return replace(own, state=State(found.state), reason=found.reason, code=found.code)


class SharedRepository:
    """Loads and unloads in every worker, and lists what all of them have."""

    def __init__(self, reloader: Reloader, models: SharedModels, member: Member) -> None:
        """Keep this worker's own part and the way to the others."""
        self._reloader = reloader
        self._models = models
        self._link = member.link
        self._uploads = Path(member.start.uploads)

    async def index(self) -> list[IndexRow]:
        """Return everything in memory and on disk."""
        return await self._reloader.index(self._models.views())

    async def load(self, name: str, upload: Upload | None = None) -> None:
        """Load a model in all workers, from what came with the request if something did."""
        folder = ""
        if upload is not None:
            self._reloader.require_control("loaded")
            folder = str(await asyncio.to_thread(write_upload, self._uploads, name, upload))
        await self._link.request("load", name, folder)

    async def unload(self, name: str) -> None:
        """Take a model out of service in all workers."""
        await self._link.request("unload", name)
