"""One timer for many deadlines: it rings at the earliest, or before."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

# uvloop's timers count whole milliseconds: what rings too early rings again so much later.
_LEAST = 0.001


class Alarm:
    """Calls ``on_ring`` on the event loop at the earliest time it was asked for.

    A timer for each of many deadlines that are hardly ever reached would cost more than the work
    they guard.  Who is called looks for itself who is late, and asks for the next time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_ring: Callable[[], None]) -> None:
        """Begin without a time."""
        self._loop = loop
        self._on_ring = on_ring
        self._timer: asyncio.TimerHandle | None = None
        self.at = math.inf

    def set(self, at: float, now: float) -> None:
        """Ring at ``at`` at the latest."""
        if at >= self.at:
            return
        self.cancel()
        self.at = at
        self._timer = self._loop.call_later(max(at - now, _LEAST), self._ring)

    def cancel(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.at = None, math.inf

    def _ring(self) -> None:
        self._timer, self.at = None, math.inf
        self._on_ring()
