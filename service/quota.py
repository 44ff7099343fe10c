"""How often, and how many at once, each key may ask; counted for all workers together.

The counts lie in memory that all workers share.  Each writes counts of its own, so none needs a
lock; of the time that the pace is kept by, two that write in the same microsecond may lose one.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from service.errors import QuotaExceeded

# More names than this, over the life of a server, share counts.
SLOTS: Final = 4096
_WORD: Final = 8
# Before a slot's counts: whose it is, and when the next request would be on time.
_TAG, _DUE, _COUNTS = range(3)
_LONGEST_ADVICE: Final = 60


@dataclass(frozen=True, slots=True)
class Quota:
    """Requests a second, as a mean with one second's worth at once, and requests under way."""

    rate: float | None = None
    concurrency: int | None = None


def paced(due: float, now: float, rate: float) -> tuple[float, float]:
    """Return when the next request is due after one at ``now``, and how long this one must wait.

    ``due`` is what was returned for the one before, 0 if there was none.  A request may come before
    it is due by what a second holds.  One that must wait changes nothing.
    """
    start = max(due, now)
    early = start - now - max(0.0, 1 - 1 / rate)
    # Times of a machine that has run for years are known to less than a microsecond.
    return (start + 1 / rate, 0.0) if early <= 1e-6 else (due, early)


def make_memory(workers: int) -> int:
    """Return a file descriptor of new memory without a name on disk, for so many workers."""
    descriptor = os.memfd_create("onnxport-quotas")
    os.ftruncate(descriptor, SLOTS * (_COUNTS + workers) * _WORD)
    return descriptor


def forget_worker(descriptor: int, worker: int) -> None:
    """Take back what a worker that is no more had under way; workers are counted from 1."""
    with mmap.mmap(descriptor, 0) as memory, memoryview(memory) as plain, plain.cast("Q") as words:
        width = len(words) // SLOTS
        for at in range(_COUNTS + worker - 1, len(words), width):
            words[at] = 0


class Claim:
    """A request under way, until it is released, which must happen once."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: memoryview, at: int) -> None:
        """Count it."""
        self._words = words
        self._at = at
        words[at] += 1

    def release(self) -> None:
        """Count it no more."""
        self._words[self._at] -= 1


class Ledger:
    """The counts of all workers as one of them reads and writes them."""

    def __init__(
        self, descriptor: int, worker: int = 1, *, clock: Callable[[], float] = monotonic
    ) -> None:
        """Map the memory; ``clock`` must be the same for all workers."""
        plain = memoryview(mmap.mmap(descriptor, 0))
        self._words, self._times = plain.cast("Q"), plain.cast("d")
        self._width = len(self._words) // SLOTS
        self._column = _COUNTS + worker - 1
        self._clock = clock
        self._places: dict[str, int] = {}

    def claim(self, name: str, quota: Quota) -> Claim:
        """Count a request of a key; raises QuotaExceeded if it has too many, or comes too soon."""
        at = self._places.get(name)
        if at is None:
            at = self._places[name] = self._find(name)
        if quota.concurrency is not None:
            under_way = sum(self._words[at + _COUNTS : at + self._width])
            if under_way >= quota.concurrency:
                raise QuotaExceeded(
                    f"key '{name}': {under_way} requests under way, at most {quota.concurrency} may"
                )
        if quota.rate is not None:
            due, wait = paced(self._times[at + _DUE], self._clock(), quota.rate)
            if wait > 0:
                raise QuotaExceeded(
                    f"key '{name}': at most {quota.rate:g} requests a second",
                    retry_after=min(_LONGEST_ADVICE, math.ceil(wait)),
                )
            self._times[at + _DUE] = due
        return Claim(self._words, at + self._column)

    def _find(self, name: str) -> int:
        """Return where a key's counts begin: where it has been before, else in a free slot."""
        tag = int.from_bytes(hashlib.sha256(name.encode()).digest()[:_WORD]) or 1
        for step in range(SLOTS):
            at = (tag + step) % SLOTS * self._width
            if not self._words[at]:
                self._words[at] = tag
            if self._words[at] == tag:
                return at
        return tag % SLOTS * self._width
