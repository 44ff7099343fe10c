"""What every load of a version uses, whichever version it is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from service.batcher import BatchPolicy
from service.device import DeviceHealth
from service.loader import Loaded, LoadOptions
from service.observer import Observer
from service.pool import Pool
from service.repository import Found
from service.watchdog import Watchdog

Load = Callable[[Found, LoadOptions, Callable[[str], None]], Loaded]


class Failures:
    """Which failures have been told, so that each is told once however often it is tried."""

    def __init__(self) -> None:
        """Begin with nothing told; changed only on the event loop."""
        self._told: dict[tuple[str, int], tuple[str, str]] = {}

    def expect(self, name: str, version: int, reason: str) -> None:
        """Take a failure for told, whatever the files look like."""
        self._told[name, version] = ("", reason)

    def is_news(self, found: Found, reason: str) -> bool:
        """Whether a failure is another one than the last of the version, or of other files."""
        key, seen = (found.name, found.version), (found.fingerprint, reason)
        before = self._told.get(key)
        self._told[key] = seen
        return before not in (seen, ("", reason))


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
    failures: Failures = field(default_factory=Failures)

    def spare(self) -> None:
        """Have another thread in the place of one that does not come back."""
        if isinstance(self.runs, Pool):
            self.runs.give_one_up()
