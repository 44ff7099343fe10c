"""What should be live: `plan` decides, the `Reloader` looks at the disk and has it done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from service.errors import (
    ConfigurationError,
    ControlDisabled,
    LoadRefused,
    NotInRepository,
    ServiceError,
)
from service.lifecycle import LEAVING, ModelView, State
from service.registry import Registry
from service.repository import Found, named, scan
from service.serving import NEWEST, SERVING_FILE, VersionPolicy, choose

ALL_MODELS = "*"
Key = tuple[str, int]
Mode = Literal["none", "explicit"]
_log = logging.getLogger("onnxport.reloader")


@dataclass(frozen=True, slots=True)
class Control:
    """Who decides what is live.

    "none": everything on disk at the start, and nothing changes afterwards.  "explicit": the
    named models ("*" for all) at the start, afterwards what is asked for by request.
    """

    mode: Mode = "none"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Which models are decided on, None for all, and their versions where no rules say it."""

    names: frozenset[str] | None = None
    versions: VersionPolicy = NEWEST


@dataclass(frozen=True, slots=True)
class Plan:
    """What to load, and what to unload once all of that has been loaded well."""

    load: tuple[Found, ...]
    unload: tuple[Key, ...]


def plan(
    found: Iterable[Found], live: Mapping[Key, State], policy: Policy, *, again: bool = False
) -> Plan:
    """Decide from what is on disk and what is in memory; other models than the policy's are left.

    ``again`` also loads what is READY, because its files may be others than they were.
    """
    chosen = {(one.name, one.version): one for one in wanted(found, policy)}
    load = (one for key, one in chosen.items() if again or live.get(key) is not State.READY)
    unload = (
        key
        for key, state in sorted(live.items())
        if key not in chosen and state not in LEAVING and _concerns(policy, key[0])
    )
    return Plan(tuple(load), tuple(unload))


def wanted(found: Iterable[Found], policy: Policy) -> list[Found]:
    """Return the versions that should be live, sorted by name and version.

    A version that a label names is wanted whatever the policy says.  One that the rules ask for
    but that is not on disk is returned with that as its problem.
    """
    by_name = attrgetter("name")
    chosen: list[Found] = []
    for name, versions in groupby(sorted(found, key=by_name), key=by_name):
        if _concerns(policy, name):
            chosen += _wanted_versions({one.version: one for one in versions}, policy.versions)
    return chosen


def _wanted_versions(found: Mapping[int, Found], default: VersionPolicy) -> list[Found]:
    any_of_them = next(iter(found.values()))
    rules = any_of_them.rules
    numbers = choose(rules.versions or default, found) | set(rules.labels.values())
    return [found.get(number) or _missing(any_of_them, number, found) for number in sorted(numbers)]


def _missing(other: Found, number: int, found: Collection[int]) -> Found:
    folder = other.path.parent / str(number)
    there = ", ".join(str(version) for version in sorted(found))
    problem = f"{folder}: not on disk, but {SERVING_FILE} asks for it; there are {there}"
    return Found(other.name, number, folder, problem, other.rules, other.notes)


def _concerns(policy: Policy, name: str) -> bool:
    return policy.names is None or name in policy.names


def at_start(
    found: Sequence[Found],
    control: Control,
    *,
    loaded: Collection[str] = (),
    unloaded: Collection[str] = (),
) -> list[Found]:
    """Return what is to be loaded when a process starts.

    ``loaded`` and ``unloaded`` are what was asked for by request before; such models may have
    gone from the disk.  Raises ConfigurationError for a name of the settings that has.
    """
    there = sorted({one.name for one in found})
    if control.mode != "explicit" or ALL_MODELS in control.names:
        return wanted(found, Policy(frozenset(there) - frozenset(unloaded)))
    for name in control.names:
        if name not in there:
            raise ConfigurationError(
                f"load_model: '{name}' is not in the repository; "
                f"it holds {', '.join(there) or 'no model'}"
            )
    return wanted(found, Policy(frozenset({*control.names, *loaded}) - frozenset(unloaded)))


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One line of the index; a model that was never loaded has neither version nor state."""

    name: str
    version: int | None = None
    state: State | None = None
    reason: str = ""
    code: str = ""


def index_rows(
    views: Iterable[ModelView], unloaded: Mapping[str, Collection[int]], on_disk: Iterable[str]
) -> list[IndexRow]:
    """Return what is in memory, what was unloaded by request, and by name what else there is."""
    rows = {
        (v.name, v.version): IndexRow(v.name, v.version, v.state, v.reason, v.code) for v in views
    }
    for name, versions in unloaded.items():
        for version in versions:
            row = IndexRow(name, version, State.UNLOADED, "unloaded")
            rows.setdefault((name, version), row)
    known = {name for name, _ in rows}
    rest = [IndexRow(name) for name in on_disk if name not in known]
    return sorted([*rows.values(), *rest], key=lambda row: (row.name, row.version or 0))


class Reloader:
    """Loads and unloads by request, one request a model at a time."""

    def __init__(
        self, registry: Registry, repository: Path, control: Control, *, model_name: str = ""
    ) -> None:
        """Keep the parts; the disk is looked at anew for every request.

        ``model_name`` is what the repository's only model is called, "" leaves it its own name.
        """
        self._registry = registry
        self._repository = repository
        self._control = control
        self._model_name = model_name
        # Changed only on the event loop.
        self._working: set[asyncio.Task[None]] = set()
        self._unloaded: dict[str, tuple[int, ...]] = {}

    async def load(self, name: str) -> None:
        """Load, or load again, what should be live of a model; return when it is READY.

        Raises NotInRepository, LoadRefused with the reasons, or ControlDisabled.
        """
        self._require_control("loaded")
        await self._see_through(self._load(name))

    async def unload(self, name: str) -> None:
        """Take a model out of service, whether it is known or not; what it still answers drains.

        Raises ControlDisabled.
        """
        self._require_control("unloaded")
        await self._see_through(self._unload(name))

    async def index(self, views: Sequence[ModelView] | None = None) -> list[IndexRow]:
        """Return everything in memory and on disk, sorted by name and version.

        ``views`` are what is in memory if it is not in this process alone.
        """
        on_disk = {one.name for one in await self._scan()}
        seen = self._registry.views() if views is None else views
        return index_rows(seen, self._unloaded, on_disk)

    async def aclose(self) -> None:
        """Wait until every request that was begun is done."""
        if self._working:
            await asyncio.wait(self._working)

    def _require_control(self, verb: str) -> None:
        if self._control.mode != "explicit":
            raise ControlDisabled(
                f"models cannot be {verb} by request: model_control is {self._control.mode}, "
                "not explicit"
            )

    async def _see_through(self, work: Coroutine[Any, Any, None]) -> None:
        """Await work that goes on to its end even if the one who asked for it is gone."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ServiceError):
            _log.error("a request to load or unload failed unforeseen", exc_info=error)

    async def _load(self, name: str) -> None:
        async with self._registry.turn(name):
            found = [one for one in await self._scan() if one.name == name]
            if not found:
                raise NotInRepository(name)
            views = [view for view in self._registry.views() if view.name == name]
            live = {(view.name, view.version): view.state for view in views}
            todo = plan(found, live, Policy(frozenset({name})), again=True)
            self._unloaded.pop(name, None)
            reasons = await self._registry.load(todo.load)
            if reasons:
                raise LoadRefused(name, reasons)
            self._registry.adopt(name, found[0].rules)
            self._registry.unload(name, [version for _, version in todo.unload])

    async def _unload(self, name: str) -> None:
        async with self._registry.turn(name):
            versions = [view.version for view in self._registry.views() if view.name == name]
            if versions:
                self._unloaded[name] = tuple(versions)
            self._registry.unload(name, versions)

    async def _scan(self) -> list[Found]:
        """Return what is on disk; a repository that is not there holds nothing."""
        try:
            found = named(await asyncio.to_thread(scan, self._repository), self._model_name)
        except ConfigurationError:
            found = []
        on_disk = {one.name for one in found}
        self._unloaded = {n: v for n, v in self._unloaded.items() if n in on_disk}
        return found
