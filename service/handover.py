"""Descriptors of a model's files on their way from the supervisor to a worker."""

from __future__ import annotations

import os
import socket
import struct
import threading
from typing import Final

from service.errors import ControlBroken

_NUMBER: Final = struct.Struct("!Q")


def hand_over(channel: socket.socket, number: int, descriptor: int) -> None:
    """Send a descriptor under a number; raises OSError if the receiver is gone or never looks."""
    socket.send_fds(channel, [_NUMBER.pack(number)], [descriptor])


class Handover:
    """The receiving end, for several threads that each wait for one of their own."""

    def __init__(self, channel: socket.socket) -> None:
        """Keep the socket, which is read only by who knows that something has been sent."""
        channel.setblocking(False)  # noqa: FBT003 - the library's only spelling
        self._channel = channel
        self._lock = threading.Lock()
        self._waiting: dict[int, int] = {}

    def collect(self, number: int) -> int:
        """Return a descriptor that has been sent already; it is the caller's from now on.

        Raises ControlBroken if it has not.
        """
        with self._lock:
            while number not in self._waiting:
                self._receive()
            return self._waiting.pop(number)

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._channel, _NUMBER.size, 1, socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            raise ControlBroken(f"the files of a model did not come: {error}") from error
        if len(data) != _NUMBER.size or not descriptors:
            # This process has no room for another descriptor, or the supervisor is gone.
            raise ControlBroken("a model's files came without their descriptor")
        (number,) = _NUMBER.unpack(data)
        before = self._waiting.pop(number, None)
        if before is not None:
            os.close(before)
        self._waiting[number] = descriptors[0]
