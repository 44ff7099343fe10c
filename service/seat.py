"""One worker as the supervisor knows it; the process in it may be replaced."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from service.children import Child
from service.control import Message, States, encode
from service.fleet import Post
from service.snapshots import Snapshot


class Outlet(Protocol):
    """What a seat needs of the stream to its worker."""

    def write(self, data: bytes) -> None:
        """Send bytes, now or later."""

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        ...


@dataclass(slots=True)
class Seat:
    """A numbered place for a worker; changed only on the supervisor's event loop.

    ``restarted`` says that the process in it is not the first; such a one counts for readiness
    only from when its models have settled.  ``given`` is when it last got a connection, counted
    over all workers.  ``full`` says that its socket holds no more connections; ``pending`` are
    connections that it was sent and has not said to have taken.
    ``desired`` is what had been loaded and unloaded by request when it started.  ``leaving`` says
    that it was told to make room, ``unanswered`` how many pings it has not answered.
    """

    number: int
    child: Child | None = None
    writer: Outlet | None = None
    up: bool = False
    settled: bool = False
    full: bool = False
    restarted: bool = False
    leaving: bool = False
    unanswered: int = 0
    open: int = 0
    given: int = 0
    states: States | None = None
    snapshot: Snapshot | None = None
    pending: deque[socket.socket] = field(default_factory=deque)
    deaths: list[float] = field(default_factory=list)
    desired: dict[str, bool] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether the state of this worker's models is part of the whole server's."""
        return self.states is not None and self.up and (self.settled or not self.restarted)

    @property
    def post(self) -> Post:
        """The worker as the one who hands out connections sees it."""
        able = self.up and not self.full and not self.leaving
        return Post(self.number, self.open, self.given, able, self.settled)

    def begin(self, child: Child, writer: Outlet) -> None:
        """Take a new process in."""
        self.child, self.writer = child, writer
        self.open = 0

    def leave(self) -> None:
        """Forget the process; what it had counted is the caller's to keep."""
        if self.child is not None:
            self.child.close()
        self.child = self.writer = self.states = self.snapshot = None
        self.up = self.settled = self.full = self.leaving = False
        self.unanswered = 0
        self.restarted = True
        self.open = 0

    def send(self, message: Message) -> None:
        """Send a message, if there is still somebody to hear it."""
        if self.writer is not None and not self.writer.is_closing():
            self.writer.write(encode(message))
