"""W3C trace context: which trace a request belongs to, read from its header or begun here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

_PARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?",
    re.DOTALL,
)
_LONGEST: Final = 512
_SPANS: Final = 1 << 64
# Spreads neighbouring numbers over all of them, so that every n-th trace is chosen by its number.
_SPREAD: Final = 0x9E3779B97F4A7C15


class Trace:
    """The place of one request in a trace; ids are lower-case hexadecimal.

    ``parent`` is the caller's span, "" where the trace begins here.  What is ``sampled`` is to be
    kept by who sees it; what is ``recorded`` is sampled, and this server sends its spans.
    """

    # A plain class: one is made for every request, and a frozen dataclass costs three times it.
    __slots__ = ("id", "parent", "recorded", "sampled", "span")

    def __init__(
        self, trace: str, span: str, *, parent: str = "", sampled: bool = False, recorded: bool
    ) -> None:
        """Keep the ids."""
        self.id = trace
        self.span = span
        self.parent = parent
        self.sampled = sampled
        self.recorded = recorded

    def header(self) -> bytes:
        """Return what the next one is told, the span here being its parent."""
        return f"00-{self.id}-{self.span}-{int(self.sampled):02x}".encode()


class Place(Protocol):
    """A request, which has a place in a trace, and may find it out only when somebody asks."""

    @property
    def id(self) -> bytes:
        """The request's own id."""
        ...

    @property
    def trace(self) -> Trace | None:
        """The place, None where nobody has asked."""
        ...

    def placed(self) -> Trace:
        """Return the place."""
        ...


# The request that is being answered.
current: ContextVar[Place | None] = ContextVar("current", default=None)


def request_id() -> str:
    """Return the id of the request that is being answered, "" outside of any."""
    place = current.get()
    return place.id.decode() if place is not None else ""


@dataclass(frozen=True, slots=True)
class RunTrace:
    """One run of a model and the traces of the requests in it; times are monotonic seconds."""

    model: str
    version: int
    rows: int
    started: float
    ended: float
    traces: Sequence[Trace]


@dataclass(frozen=True, slots=True)
class Parent:
    """What a caller says of its trace."""

    trace: str
    span: str
    sampled: bool


def read_parent(header: bytes) -> Parent | None:
    """Return what a traceparent header says, None where it says nothing valid.

    Later versions may say more behind what version 00 says.
    """
    found = _PARENT.fullmatch(header) if len(header) <= _LONGEST else None
    if found is None or (found[1] == b"00" and found[5] is not None):
        return None
    return Parent(found[2].decode(), found[3].decode(), bool(int(found[4], 16) & 1))


class Traces:
    """Gives a request its place in a trace, without asking the system for randomness."""

    def __init__(self, *, recording: bool = False, ratio: float = 1.0) -> None:
        """Begin; where spans are ``recording``, ``ratio`` of the traces that begin here are."""
        self.recording = recording
        self._limit = round(ratio * _SPANS) if recording else 0

    def begin(self, header: bytes, own: str) -> Trace:
        """Return the place of a request with this header, which may be empty.

        ``own`` is the id of the trace that begins where the header names none: 16 digits of this
        process and 16 of this request.
        """
        parent = read_parent(header) if header else None
        if parent is None:
            chosen = int(own[16:], 16) * _SPREAD % _SPANS < self._limit
            return own_trace(own, recorded=chosen)
        # A trace may come here several times, to several processes.
        span = int(own[:16], 16) ^ int(own[16:], 16)
        return Trace(
            parent.trace,
            f"{span or 1:016x}",
            parent=parent.span,
            sampled=parent.sampled,
            recorded=parent.sampled and self.recording,
        )


def own_trace(own: str, *, recorded: bool = False) -> Trace:
    """Return the place of a request that begins a trace; its span is the only one here."""
    return Trace(own, own[16:], sampled=recorded, recorded=recorded)
