"""Connections are accepted in one place and handed to the worker that holds the fewest."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from service.fleet import choose
from service.listener import close_listener
from service.seat import Seat

_log = logging.getLogger("onnxport.supervisor")
_AT_ONCE: Final = 64
# How long nothing is accepted after there was no room for a connection.
_PAUSE: Final = 0.05
A_CONNECTION: Final = b"c"


class Handout:
    """Accepts while there is a worker to take a connection; else they wait in the kernel.

    A connection is kept until its worker has said that it took it: if the worker dies before,
    another one gets it, and the caller does not notice.
    """

    def __init__(self, listeners: Sequence[socket.socket], seats: Mapping[int, Seat]) -> None:
        """Keep the listening sockets, which must not block."""
        self._listeners = tuple(listeners)
        self._seats = seats
        self._loop = asyncio.get_running_loop()
        self._accepting = False
        self._closed = False
        self._given = 0
        self._waiting: deque[socket.socket] = deque()
        self._pause: asyncio.TimerHandle | None = None

    def update(self) -> None:
        """Hand out what waits, and begin or cease to accept, after a worker's state has changed."""
        self._deliver()
        able = not (self._closed or self._waiting or self._pause or self._next() is None)
        for listener in self._listeners:
            if able and not self._accepting:
                self._loop.add_reader(listener, self._accept, listener)
            elif not able and self._accepting:
                self._loop.remove_reader(listener)
        self._accepting = able

    def taken(self, seat: Seat, count: int) -> None:
        """Leave so many connections to the worker alone."""
        for _ in range(min(count, len(seat.pending))):
            seat.pending.popleft().close()
        if seat.full:
            seat.full = False
            self.update()

    def lost(self, seat: Seat) -> None:
        """Hand what a dead worker has not taken to others."""
        self._waiting.extend(seat.pending)
        seat.pending.clear()
        self.update()

    def close(self) -> None:
        """Accept no more; callers are refused from now on."""
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self.update()
        for listener in self._listeners:
            close_listener(listener)

    def abandon(self) -> None:
        """Hang up on whoever still waits for a worker."""
        while self._waiting:
            self._waiting.popleft().close()

    def _next(self) -> Seat | None:
        number = choose(seat.post for seat in self._seats.values())
        return None if number is None else self._seats[number]

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors or memory: waiting callers may get one when others have ended.
                _log.error("cannot accept a connection: %s", error.strerror)
                self._wait()
                return
            self._waiting.append(connection)
            self._deliver()
            if self._waiting:
                self.update()
                return

    def _deliver(self) -> None:
        while self._waiting and (seat := self._next()) is not None:
            if self._send(seat, self._waiting[0]):
                seat.pending.append(self._waiting.popleft())

    def _send(self, seat: Seat, connection: socket.socket) -> bool:
        """Give the connection to a worker; whether that went well."""
        if seat.child is None:
            seat.up = False
            return False
        try:
            socket.send_fds(seat.child.connections, [A_CONNECTION], [connection.fileno()])
        except ConnectionError:
            # It is about to be found dead.
            seat.up = False
            return False
        except OSError:
            # It is too busy to empty its socket; when it does, it says so.
            seat.full = True
            return False
        self._given += 1
        seat.open += 1
        seat.given = self._given
        return True

    def _wait(self) -> None:
        self._pause = self._loop.call_later(_PAUSE, self._resume)
        self.update()

    def _resume(self) -> None:
        self._pause = None
        self.update()
