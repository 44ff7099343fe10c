"""What stands in the place of uvicorn's cycle while a direct call is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
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
    status: int, defaults: Sequence[tuple[bytes, bytes]], head: bytes, body: bytes, *, close: bool
) -> bytes:
    """Return a whole answer; ``head`` is header lines, ``defaults`` are those of the server."""
    lines = [STATUS_LINE[status]]
    for name, value in defaults:
        lines += (name, b": ", value, b"\r\n")
    lines += (head, b"connection: close\r\n\r\n" if close else b"\r\n", body)
    return b"".join(lines)


def error_parts(text: str, identity: bytes, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return header lines and body of an answer that says what is wrong."""
    body = orjson.dumps({"error": text})
    lines = [f"{name.lower()}: {value}\r\n".encode("latin-1") for name, value in headers.items()]
    lines.append(b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body))
    lines.append(b"x-request-id: %b\r\n" % identity)
    return b"".join(lines), body
