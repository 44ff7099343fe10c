"""When a changed repository is acted upon: rules on plain values, and a loop that follows them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from service.fingerprints import OWN, Print, look

_log = logging.getLogger("onnxport.poller")

# What is incomplete by its own account may still come; after so long it is held to be damaged.
PATIENCE: Final = 10.0
FIRST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 60.0
_GONE: Final = Print("")
_UNKNOWN: Final = "?"


@dataclass(frozen=True, slots=True)
class Part:
    """A version, or what lies beside the versions, as it was seen since a monotonic time."""

    seen: Print
    since: float


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of one model: its parts, what of them was acted upon, and its failures.

    ``told`` holds fingerprints; ``retry_at`` is a monotonic time, None where nothing has failed.
    """

    parts: Mapping[str, Part] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """That a model is to be brought in line with the disk.

    ``settling`` are versions whose files still change; they are to be left as they are.
    ``retry`` says that what failed before is to be tried again though its files are the same.
    """

    settling: tuple[str, ...] = ()
    retry: bool = False


Sync = Callable[[str, Task], Awaitable[bool]]
"""Brings one model in line with the disk; whether all that is wanted could be loaded."""


def seen_again(watched: Watched, seen: Mapping[str, Print], now: float) -> Watched:
    """Return what is known after another look; a part that has gone is seen as gone."""
    parts: dict[str, Part] = {}
    for name in {*watched.parts, *seen}:
        before, found = watched.parts.get(name), seen.get(name, _GONE)
        parts[name] = before if before and before.seen == found else Part(found, now)
    return replace(watched, parts=parts)


def is_settled(part: Part, now: float, confirm: float) -> bool:
    """Whether a part is worth a try: unchanged for a while, a longer one if it is incomplete."""
    return now - part.since >= (confirm if part.seen.complete else max(PATIENCE, confirm))


def task_for(watched: Watched, now: float, confirm: float) -> Task | None:
    """Return what is to be done about a model now, None for nothing.

    Nothing is as long as the files beside the versions change: they hold the model's rules.
    """
    settled = {name for name, part in watched.parts.items() if is_settled(part, now, confirm)}
    if OWN in watched.parts and OWN not in settled:
        return None
    changed = any(
        watched.told.get(name, "") != watched.parts[name].seen.fingerprint for name in settled
    )
    retry = watched.retry_at is not None and now >= watched.retry_at
    if not changed and not retry:
        return None
    settling = tuple(sorted(name for name in watched.parts if name not in settled))
    return Task(settling, retry and not changed)


def begun(watched: Watched, task: Task) -> Watched:
    """Return what is known when a task has been begun: these files have been acted upon."""
    acted = {name: part.seen.fingerprint for name, part in watched.parts.items()}
    told = {
        name: watched.told.get(name, "") if name in task.settling else fingerprint
        for name, fingerprint in acted.items()
    }
    parts = {
        name: part for name, part in watched.parts.items() if told[name] or name in task.settling
    }
    failures = watched.failures if task.retry else 0
    return Watched(parts, {n: t for n, t in told.items() if t}, failures, None)


def ended(watched: Watched, now: float, *, well: bool) -> Watched:
    """Return what is known when a task has ended; a failure is to be tried again."""
    if well:
        return replace(watched, failures=0, retry_at=None)
    return replace(
        watched, failures=watched.failures + 1, retry_at=now + retry_after(watched.failures + 1)
    )


def retry_after(failures: int) -> float:
    """Return the seconds until what has failed so often in a row is tried again."""
    return min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(max(failures - 1, 0), 16))


class Poller:
    """Looks at a repository now and then, and has every model synced whose files have changed."""

    def __init__(
        self,
        root: Path,
        sync: Sync,
        *,
        interval: float,
        whole: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep what is looked at every ``interval`` seconds; nothing is done before `run`.

        ``whole`` has a repository seen as one model, see `service.fingerprints.look`.
        """
        self._root = root
        self._sync = sync
        self._interval = interval
        self._whole = whole
        self._clock = clock
        # Changed only on the event loop.
        self._models: dict[str, Watched] = {}
        self._working: dict[str, asyncio.Task[None]] = {}
        self._unreadable = ""

    async def run(self) -> None:
        """Look and act until cancelled."""
        try:
            while True:
                # While something changes, the look that confirms its end comes sooner.
                hurry = await self.step()
                await asyncio.sleep(self._interval / 2 if hurry else self._interval)
        finally:
            for task in self._working.values():
                task.cancel()

    async def step(self) -> bool:
        """Look once and begin what is to be done; whether something has not settled yet."""
        try:
            sight = await asyncio.to_thread(look, self._root, whole=self._whole)
        except OSError as error:
            self._cannot_look(f"{self._root}: {error.strerror}")
            return False
        self._cannot_look("")
        now = self._clock()
        for name in {*self._models, *sight}:
            watched = seen_again(self._models.get(name, Watched()), sight.get(name, {}), now)
            self._models[name] = watched
            task = None if name in self._working else task_for(watched, now, self._confirm)
            if task is not None:
                self._begin(name, task)
        confirm = self._confirm
        return any(
            not is_settled(part, now, confirm)
            for watched in self._models.values()
            for part in watched.parts.values()
        )

    async def until_idle(self) -> None:
        """Return when everything that was begun has ended."""
        while self._working:
            await asyncio.wait(self._working.values())

    def look_anew(self) -> None:
        """Have every model synced again, for somebody who has not been there from the start."""
        self._models = {
            name: replace(watched, told=dict.fromkeys(watched.parts, _UNKNOWN))
            for name, watched in self._models.items()
        }

    @property
    def readable(self) -> bool:
        """Whether the repository could be read when it was looked at last."""
        return not self._unreadable

    @property
    def _confirm(self) -> float:
        return self._interval / 2

    def _cannot_look(self, why: str) -> None:
        """Say once that there is nothing to see; what is served stays as it is."""
        if why and why != self._unreadable:
            _log.error("the repository cannot be read, what is served stays as it is: %s", why)
        elif self._unreadable and not why:
            _log.info("the repository can be read again")
        self._unreadable = why

    def _begin(self, name: str, task: Task) -> None:
        watched = begun(self._models[name], task)
        if watched.parts:
            self._models[name] = watched
        else:
            del self._models[name]
        working = asyncio.create_task(self._see_through(name, task))
        working.add_done_callback(_note_surprise)
        self._working[name] = working

    async def _see_through(self, name: str, task: Task) -> None:
        well = False
        try:
            well = await self._sync(name, task)
        finally:
            del self._working[name]
            if name in self._models:
                self._models[name] = ended(self._models[name], self._clock(), well=well)


def _note_surprise(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log.error("a model could not be brought in line with the disk", exc_info=error)
