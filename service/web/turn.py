"""What stands in the place of uvicorn's cycle while a direct call is under way."""

from __future__ import annotations

from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.web.direct import DirectCall


class _NoEvent:
    """What uvicorn wakes a waiting application with; a direct call does not wait."""

    def set(self) -> None:
        """Do nothing."""


_NO_EVENT = _NoEvent()


class Turn:
    """A direct call in the place of uvicorn's cycle, so that calls of a connection keep order."""

    __slots__ = ("call", "disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        """Begin with nothing answered."""
        self.call: DirectCall | None = None
        self.response_complete = False
        self.keep_alive = True
        self.disconnected = False
        self.message_event = _NO_EVENT


def response_bytes(
    status: int, head: Iterable[tuple[bytes, bytes]], body: bytes, *, close: bool
) -> bytes:
    """Return a whole answer as it stands on a connection."""
    lines = [STATUS_LINE[status]]
    for name, value in head:
        lines += (name, b": ", value, b"\r\n")
    lines.append(b"content-length: %d\r\n" % len(body))
    lines += (b"connection: close\r\n\r\n" if close else b"\r\n", body)
    return b"".join(lines)
