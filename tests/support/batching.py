"""What a batcher stands on, made by hand: stops, a watchdog, a layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from service.lane import Stop
from service.padding import Layout

# One input [rows, any width] that is not padded.
ANY_WIDTH = Layout((("x", (1,)),))


@dataclass(slots=True)
class HandStop:
    """Remembers that it was used."""

    stopped: bool = False

    def stop(self) -> None:
        """Remember it."""
        self.stopped = True


@dataclass(slots=True)
class HandWatchdog:
    """Ends the run that is on, and calls it stuck, when a test says so."""

    stop: Stop | None = None
    on_stuck: Callable[[float], None] = field(default=lambda seconds: None)
    runs: int = 0

    def begin(self, stop: Stop, on_stuck: Callable[[float], None]) -> None:
        """Remember the run."""
        assert self.stop is None
        self.stop, self.on_stuck = stop, on_stuck
        self.runs += 1

    def end(self) -> None:
        """Forget it."""
        assert self.stop is not None
        self.stop = None

    def bite(self) -> None:
        """Find that the run takes too long."""
        assert self.stop is not None
        self.stop.stop()
