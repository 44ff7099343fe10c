"""Looks at the disk and has done what the plan says: by request, or because files have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any

from service.errors import (
    ConfigurationError,
    ControlDisabled,
    LoadRefused,
    NotInRepository,
    ServiceError,
)
from service.fingerprints import WHOLE
from service.folders import UploadFolders
from service.lifecycle import ModelView
from service.logs import printable
from service.planning import Control, IndexRow, Policy, changes_of, index_rows, plan
from service.registry import Registry
from service.repository import Found, named, scan, scan_one
from service.uploads import Upload, write_upload

_log = logging.getLogger("onnxport.reloader")


class Reloader:
    """Loads and unloads, one request or change of a model at a time."""

    def __init__(
        self,
        registry: Registry,
        repository: Path,
        control: Control,
        *,
        model_name: str = "",
        folders: UploadFolders | None = None,
    ) -> None:
        """Keep the parts; the disk is looked at anew for every request.

        ``model_name`` is what the repository's only model is called, "" leaves it its own name;
        ``folders`` are where what comes with requests is kept.
        """
        self._folders = folders or UploadFolders()
        self._registry = registry
        self._repository = repository
        self._control = control
        self._model_name = model_name
        # Changed only on the event loop.
        self._working: set[asyncio.Task[None]] = set()
        self._unloaded: dict[str, tuple[int, ...]] = {}

    async def load(self, name: str, upload: Upload | None = None) -> None:
        """Load, or load again, what should be live of a model; return when it is READY.

        Its files are those that came with the request, if any did, else those in the repository.
        Raises NotInRepository, LoadRefused with the reasons, or ControlDisabled.
        """
        self.require_control("loaded")
        if upload is None:
            await self.load_from(name, None)
            return
        folder = await asyncio.to_thread(write_upload, self._folders.root, name, upload)
        try:
            await self.load_from(name, folder)
        finally:
            if self._folders.of(name) != folder:
                self._folders.remove(folder)

    async def load_from(self, name: str, folder: Path | None) -> None:
        """Load a model from a folder of its own, None for the repository, as `load` does."""
        self.require_control("loaded")
        await self._see_through(self._load(name, folder))

    async def unload(self, name: str) -> None:
        """Take a model out of service, whether it is known or not; what it still answers drains.

        Raises ControlDisabled.
        """
        self.require_control("unloaded")
        await self._see_through(self._unload(name))

    async def sync(
        self,
        name: str,
        *,
        settling: Collection[str] = (),
        retry: bool = False,
        quiet: bool = False,
    ) -> None:
        """Bring what is live of a model in line with the disk; `WHOLE` is all there is.

        Versions that are ``settling`` stay as they are.  What failed is tried again only if its
        files have changed, or with ``retry``; ``quiet`` keeps the log free of a try that others
        have told of.  Raises LoadRefused with the reasons of all that should be READY and is not.
        """
        await self._see_through(self._sync(name, settling, retry=retry, quiet=quiet))

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
        self._folders.close()

    def require_control(self, verb: str) -> None:
        """Raise ControlDisabled unless models may be ``verb`` by request."""
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

    async def _load(self, name: str, folder: Path | None) -> None:
        async with self._registry.turn(name):
            if folder is None:
                found = [one for one in await self._scan() if one.name == name]
            else:
                found = await asyncio.to_thread(scan_one, folder, name)
            if not found:
                raise NotInRepository(name)
            views = [view for view in self._registry.views() if view.name == name]
            live = {(view.name, view.version): view.state for view in views}
            todo = plan(found, live, Policy(frozenset({name})), again=True)
            self._unloaded.pop(name, None)
            reasons = await self._registry.load(todo.load)
            if reasons:
                raise LoadRefused(name, reasons)
            self._folders.keep(name, folder)
            self._registry.adopt(name, found[0].rules)
            self._registry.unload(name, [version for _, version in todo.unload])

    async def _sync(
        self, unit: str, settling: Collection[str], *, retry: bool, quiet: bool
    ) -> None:
        names = {printable(unit)}
        if unit == WHOLE:
            names = {one.name for one in await self._on_disk(WHOLE)} | self._registry.names
        reasons = {}
        for name in sorted(names):
            async with self._registry.turn(name):
                found = [one for one in await self._on_disk(unit) if one.name == name]
                failed = await self._follow(name, found, settling, retry=retry, quiet=quiet)
            if failed:
                reasons[name] = failed
        for name, failed in reasons.items():
            raise LoadRefused(name, failed)

    async def _follow(
        self,
        name: str,
        found: Sequence[Found],
        settling: Collection[str],
        *,
        retry: bool,
        quiet: bool,
    ) -> dict[int, str]:
        """Load and unload what the disk asks for, and return why what is wanted is not READY."""
        held = self._registry.held(name)
        changes = changes_of(found, held, settling=settling, retry=retry)
        live = {(name, version): one.state for version, one in held.items()}
        todo = plan(found, live, Policy(frozenset({name})), changes)
        failed = await self._registry.load(todo.load, quiet=quiet or retry) if todo.load else {}
        failed |= {version: held[version].reason for _, version in todo.refused}
        if failed:
            return failed
        if found:
            self._registry.adopt(name, found[0].rules)
        self._registry.unload(name, [version for _, version in todo.unload])
        return failed

    async def _on_disk(self, unit: str) -> list[Found]:
        """Return the versions of a model, or everything; ConfigurationError for no repository."""
        if unit != WHOLE:
            return await asyncio.to_thread(scan_one, self._repository, unit)
        return named(await asyncio.to_thread(scan, self._repository), self._model_name)

    async def _unload(self, name: str) -> None:
        async with self._registry.turn(name):
            versions = [view.version for view in self._registry.views() if view.name == name]
            if versions:
                self._unloaded[name] = tuple(versions)
            self._registry.unload(name, versions)
            self._folders.keep(name, None)

    async def _scan(self) -> list[Found]:
        """Return what is on disk; a repository that is not there holds nothing."""
        try:
            found = named(await asyncio.to_thread(scan, self._repository), self._model_name)
        except ConfigurationError:
            found = []
        on_disk = {one.name for one in found}
        self._unloaded = {n: v for n, v in self._unloaded.items() if n in on_disk}
        return found
