"""A repository in an object store or on a web server, kept alike in a folder of the cache.

Needs the extra `remote`; only this module knows of it.  It runs beside the server, in a process of
its own, and what it writes is seen and proved as any other change of the folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

from service import logs
from service.errors import ConfigurationError, ServiceError
from service.fingerprints import is_complete

_log = logging.getLogger("onnxport.mirror")
_INDEX: Final = ".remote.json"
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")
_DEEPEST: Final = 8
_EXTRA: Final = "pip install 'onnxport[remote]'"
# What tells one state of an object from another, in the words of the different stores.
_MARKS: Final = ("ETag", "etag", "md5Hash", "generation", "LastModified", "updated", "mtime")


class Store(Protocol):
    """What is needed of a file system of fsspec."""

    def ls(self, path: str, *, detail: Literal[False]) -> list[str]:
        """Return what lies directly below a path; raises OSError where that cannot be told."""
        ...

    def find(self, path: str, *, detail: Literal[True]) -> dict[str, dict[str, Any]]:
        """Return all files below a path."""
        ...

    def info(self, path: str) -> dict[str, Any]:
        """Return what is known of a file."""
        ...

    def get_file(self, rpath: str, lpath: str) -> None:
        """Copy a file from there to here."""

    def invalidate_cache(self) -> None:
        """Forget what was listed."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One file of a store: where it is there, its size, and a mark that changes with it."""

    where: str
    size: int
    mark: str


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done: folders and files to fetch whole, and those that have gone."""

    fetch: tuple[str, ...]
    remove: tuple[str, ...]


def open_store(url: str) -> tuple[Store, str]:
    """Return the store of a URL and the path in it.

    Raises ConfigurationError where what is needed for it is not installed or the URL is none.
    """
    try:
        import fsspec  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(f"{url}: {_EXTRA} to serve from there") from error
    try:
        # Nothing that was listed before may be taken for what is there now.
        options = {} if url.startswith("http") else {"use_listings_cache": False}
        store, path = fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"{url}: {error}; {_EXTRA} to serve from there") from error
    return cast("Store", store), str(path).rstrip("/")


def listed(store: Store, root: str) -> dict[str, Remote]:
    """Return the files below a path by where they lie below it; hidden and odd names are left out.

    Raises OSError where the store cannot be read.
    """
    store.invalidate_cache()
    # To find nothing is what some stores do where they cannot be reached.
    store.ls(root, detail=False)
    found = {}
    for where, known in store.find(root, detail=True).items():
        name = where.removeprefix(root).strip("/")
        parts = name.split("/")
        if not (len(parts) <= _DEEPEST and all(map(_PART.fullmatch, parts))):
            continue
        marks = [str(known[mark]) for mark in _MARKS if known.get(mark)]
        if known.get("size") is None or not marks:
            # A web server's list says nothing but names.
            known = store.info(where)  # noqa: PLW2901 - the same, and more of it
            marks = [str(known[mark]) for mark in _MARKS if known.get(mark)]
        size = known.get("size")
        found[name] = Remote(where, -1 if size is None else int(size), "|".join(marks))
    return found


def unit_of(name: str) -> str:
    """Return what is fetched as a whole: a version's folder, or a file beside versions."""
    parts = name.split("/")
    versions = [i for i, part in enumerate(parts[:-1]) if part.isdecimal()]
    return "/".join(parts[: versions[0] + 1]) if versions else name


def work_for(remote: Mapping[str, Remote], here: Mapping[str, str]) -> Work:
    """Compare the store with the marks of what was fetched, by whole units."""
    there = {name: mark_of(one) for name, one in remote.items()}
    changed = {unit_of(name) for name in {*there, *here} if there.get(name) != here.get(name)}
    left = {unit_of(name) for name in there}
    return Work(tuple(sorted(changed & left)), tuple(sorted(changed - left)))


def mark_of(one: Remote) -> str:
    """Return a file's state as the index keeps it."""
    return hashlib.sha256(f"{one.where}\n{one.size}\n{one.mark}".encode()).hexdigest()


class Mirror:
    """A folder that is kept as a store has it."""

    def __init__(self, store: Store, root: str, folder: Path) -> None:
        """Keep where from and where to; what was fetched before is remembered there."""
        self._store = store
        self._root = root
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.rglob(".*.partial"):
            shutil.rmtree(left, ignore_errors=True)
        self._here = self._remembered()
        self._seen: dict[str, Remote] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been fetched."""
        return not self._here

    def sync(self, *, at_once: bool = False) -> bool:
        """Fetch and remove what has changed; whether everything is as it is there.

        A unit that has changed since the last look is still being written and waits for the next,
        except ``at_once``.  Raises OSError where the store cannot be read; nothing is removed then.
        """
        remote = listed(self._store, self._root)
        if not remote and self._here:
            raise FileNotFoundError(2, "nothing is there any more", self._root)
        work = work_for(remote, self._here)
        moved = {unit_of(n) for n in {*remote, *self._seen} if remote.get(n) != self._seen.get(n)}
        self._seen = remote
        settled = True
        for unit in work.fetch:
            files = {name: one for name, one in remote.items() if unit_of(name) == unit}
            if unit in moved and not at_once:
                settled = False
            else:
                settled = self._fetch(unit, files) and settled
        for unit in work.remove:
            self._remove(unit)
        return settled

    def _fetch(self, unit: str, files: Mapping[str, Remote]) -> bool:
        """Fetch a unit beside its place, then put it there; whether it was complete."""
        target = self._folder / unit
        token = secrets.token_hex(8)
        partial = target.parent / f".{target.name}.{token}.partial"
        partial.mkdir(parents=True)
        try:
            for name, one in files.items():
                self._fetch_file(name, one, partial / name.removeprefix(unit).strip("/"), target)
            whole = partial if set(files) != {unit} else next(partial.iterdir())
            if whole.is_dir() and not is_complete(whole):
                _log.info("%s is not complete there yet", unit)
                return False
            _put(whole, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._forget(unit)
        self._here |= {name: mark_of(one) for name, one in files.items()}
        self._remember()
        _log.info("fetched %s", unit, extra={"fields": {"files": len(files)}})
        return True

    def _fetch_file(self, name: str, one: Remote, file: Path, target: Path) -> None:
        if file.is_dir():
            file = file / target.name
        file.parent.mkdir(parents=True, exist_ok=True)
        before = self._folder / name
        if self._here.get(name) == mark_of(one) and before.is_file():
            shutil.copyfile(before, file)
            return
        self._store.get_file(one.where, str(file))
        size = file.stat().st_size
        if one.size not in (-1, size):
            raise OSError(5, f"{size} bytes came instead of {one.size}", one.where)

    def _remove(self, unit: str) -> None:
        target = self._folder / unit
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        self._forget(unit)
        self._remember()
        _log.info("%s is gone", unit)

    def _forget(self, unit: str) -> None:
        self._here = {name: mark for name, mark in self._here.items() if unit_of(name) != unit}

    def _remembered(self) -> dict[str, str]:
        try:
            kept = json.loads((self._folder / _INDEX).read_bytes())
        except (OSError, ValueError):
            return {}
        known = kept if isinstance(kept, dict) else {}
        return {name: mark for name, mark in known.items() if (self._folder / name).is_file()}

    def _remember(self) -> None:
        new = self._folder / f"{_INDEX}.new"
        new.write_text(json.dumps(self._here))
        new.replace(self._folder / _INDEX)


def _put(new: Path, target: Path) -> None:
    """Put a file or folder in its place; an old folder is out of the way for a moment only."""
    if not target.is_dir():
        os.replace(new, target)  # noqa: PTH105 - the same for files and folders
        return
    old = target.parent / f".{target.name}.{secrets.token_hex(8)}.partial"
    target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def folder_of(url: str, cache: Path) -> Path:
    """Return where the cache keeps what a URL leads to."""
    return cache / "remote" / hashlib.sha256(url.encode()).hexdigest()[:16]


def fetch_once(url: str, folder: Path) -> str:
    """Fetch what is there now and return "".

    If it cannot be read return why, where something was fetched before; else raise
    ConfigurationError.
    """
    store, root = open_store(url)
    mirror = Mirror(store, root, folder)
    try:
        mirror.sync(at_once=True)
    except (OSError, ValueError) as error:
        if mirror.is_empty:
            raise ConfigurationError(f"{url}: {error}") from error
        return f"{url} cannot be read, what was fetched before is served: {error}"
    return ""


def follow(mirror: Mirror, interval: float, ended: threading.Event) -> None:
    """Look every so many seconds until the end; what cannot be read now is tried again later."""
    failed = ""
    while not ended.wait(interval):
        try:
            mirror.sync()
            failed = ""
        except (OSError, ValueError) as error:
            if str(error) != failed:
                _log.warning("the remote repository cannot be read: %s", error)
            failed = str(error)


def _until_closed(ended: threading.Event) -> None:
    """Wait for the server's end, which closes the pipe that this process reads."""
    sys.stdin.read()
    ended.set()


def main(arguments: Sequence[str] | None = None) -> None:
    """Follow a URL: the arguments are it, the folder, the seconds, level and style of the log."""
    url, folder, interval, level, style = arguments or sys.argv[1:]
    logs.configure(level=level, style=cast("logs.Style", style))
    ended = threading.Event()
    threading.Thread(target=_until_closed, args=(ended,), daemon=True).start()
    try:
        store, root = open_store(url)
        follow(Mirror(store, root, Path(folder)), float(interval), ended)
    except ServiceError as error:
        _log.error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
