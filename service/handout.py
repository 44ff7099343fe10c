"""Connections are accepted in one place and handed to the worker that holds the fewest."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import Final

from service.fleet import choose
from service.seat import Seat

_log = logging.getLogger("onnxport.supervisor")
_AT_ONCE: Final = 64
# How long nothing is accepted after there was no room for a connection.
_PAUSE: Final = 0.05
A_CONNECTION: Final = b"c"


class Handout:
    """Accepts while there is a worker to take a connection; else they wait in the kernel."""

    def __init__(self, listener: socket.socket, seats: Mapping[int, Seat]) -> None:
        """Keep the listening socket, which must not block."""
        self._listener = listener
        self._seats = seats
        self._loop = asyncio.get_running_loop()
        self._accepting = False
        self._closed = False
        self._given = 0
        self._pause: asyncio.TimerHandle | None = None

    def update(self) -> None:
        """Begin or cease to accept, after the state of a worker has changed."""
        able = not self._closed and self._pause is None and self._next() is not None
        if able and not self._accepting:
            self._loop.add_reader(self._listener, self._accept)
        elif not able and self._accepting:
            self._loop.remove_reader(self._listener)
        self._accepting = able

    def close(self) -> None:
        """Accept no more; callers are refused from now on."""
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self.update()
        self._listener.close()

    def _next(self) -> Seat | None:
        number = choose(seat.post for seat in self._seats.values())
        return None if number is None else self._seats[number]

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors or memory: waiting callers may get one when others have ended.
                _log.error("cannot accept a connection: %s", error.strerror)
                self._wait()
                return
            with connection:
                if not self._hand(connection):
                    return

    def _hand(self, connection: socket.socket) -> bool:
        """Give the connection to a worker; whether there may be another one."""
        while (seat := self._next()) is not None and seat.child is not None:
            try:
                socket.send_fds(seat.child.connections, [A_CONNECTION], [connection.fileno()])
            except (BlockingIOError, InterruptedError):
                # The worker does not take them from its socket: the caller must come again.
                _log.warning("worker %d takes no connections, one is refused", seat.number)
                self._wait()
                return False
            except OSError:
                # It is about to be found dead.
                seat.up = False
                continue
            self._given += 1
            seat.open += 1
            seat.given = self._given
            return True
        self.update()
        return False

    def _wait(self) -> None:
        self._pause = self._loop.call_later(_PAUSE, self._resume)
        self.update()

    def _resume(self) -> None:
        self._pause = None
        self.update()
