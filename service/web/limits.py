"""What a connection may cost before anybody knows who is behind it; pure rules on plain values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """What a connection is doing: nothing, sending a head, sending a body, or waiting."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    BUSY = "busy"
    ENDING = "ending"


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Bytes and seconds that one connection, or all of them together, may take.

    A body must make progress every ``body_seconds``, and after the first of them have come at
    ``body_rate`` bytes a second on average.  ``ending_seconds`` are for a refused caller to read
    why.
    """

    head_bytes: int = 64 << 10
    headers: int = 100
    head_seconds: float = 10.0
    body_bytes: int = 64 << 20
    body_seconds: float = 10.0
    body_rate: int = 1024
    idle_seconds: float = 75.0
    read_seconds: float = 10.0
    ending_seconds: float = 2.0
    connections: int = 10_000
    bytes_in_flight: int = 256 << 20


@dataclass(slots=True)
class Progress:
    """Where a connection is: since when in its phase, and when bytes last moved, either way."""

    phase: Phase
    since: float
    moved: float
    received: int = 0
    unread: int = 0
    read: float = 0.0

    def enter(self, phase: Phase, now: float) -> None:
        """Begin a phase."""
        self.phase = phase
        self.since = self.moved = now
        self.received = 0

    def heard(self, size: int, now: float) -> None:
        """Note that bytes arrived."""
        self.moved = now
        self.received += size

    def wrote(self, unread: int, now: float) -> None:
        """Note how many bytes of answers the caller has not taken yet."""
        if not unread or unread < self.unread or not self.unread:
            self.read = now
        self.unread = unread


def overdue(progress: Progress, limits: EdgeLimits, now: float) -> str:
    """Return what a connection has taken too long for, "" if nothing.

    "head", "body" and "idle" stand for the phase, "read" for answers that nobody takes, and
    "ending" for a refused caller that does not go.
    """
    if progress.unread and now - progress.read > limits.read_seconds:
        return "read"
    waited = now - progress.since
    if progress.phase is Phase.HEAD and waited > limits.head_seconds:
        return "head"
    if progress.phase is Phase.IDLE and waited > limits.idle_seconds:
        return "idle"
    if progress.phase is Phase.ENDING and waited > limits.ending_seconds:
        return "ending"
    if progress.phase is Phase.BODY and _stalls(progress, limits, waited, now):
        return "body"
    return ""


def _stalls(progress: Progress, limits: EdgeLimits, waited: float, now: float) -> bool:
    if now - progress.moved > limits.body_seconds:
        return True
    return waited > limits.body_seconds and progress.received < limits.body_rate * waited


class ByteBudget:
    """The bytes of bodies that a process holds at once."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        """Begin with none held."""
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> bool:
        """Hold so many more, if they fit; one body alone always fits, its own limit bounds it."""
        if self.held and self.held + size > self.limit:
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        """Hold so many fewer."""
        self.held -= size
