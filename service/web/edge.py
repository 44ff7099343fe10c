"""Our protocol class for uvicorn: it reads a call's head and chooses the road for what follows."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from service.access import ANYBODY
from service.web.direct import DirectCall, DirectRoad, Target, is_plain, target_of


class _NoEvent:
    """What uvicorn wakes a waiting application with; a direct call does not wait."""

    def set(self) -> None:
        """Do nothing."""


class _Turn:
    """A direct call in the place of uvicorn's cycle, so that calls of a connection keep order."""

    __slots__ = ("call", "disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self, event: _NoEvent) -> None:
        self.call: DirectCall | None = None
        self.response_complete = False
        self.keep_alive = True
        self.disconnected = False
        self.message_event = event


class EdgeProtocol(HttpToolsProtocol):
    """uvicorn's protocol, in which a plain infer call takes the direct road.

    Such a call is answered without an ASGI scope, task or message.  All others, and those that
    arrive while an earlier one of their connection is being answered, go uvicorn's own way.
    """

    _NO_EVENT = _NoEvent()

    def __init__(
        self,
        direct: DirectRoad,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Build what uvicorn builds; ``direct`` is the road that all connections share."""
        super().__init__(config, server_state, app_state, _loop)
        self._direct = direct
        self._target: Target | None = None
        self._turn: _Turn | None = None
        self._caller = ANYBODY
        self._call_headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def on_message_begin(self) -> None:
        """Start a head; the scope is built only for calls that need one."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._target = None

    def on_headers_complete(self) -> None:
        """Choose the road."""
        target = target_of(self.url)
        if target is not None and self._is_free():
            headers = dict(self.headers)
            if is_plain(headers, self._direct.max_body_bytes):
                caller = self._direct.admit(target, self.headers, self._port)
                if caller is not None:
                    self._target, self._call_headers, self._body = target, headers, []
                    self._caller = caller
                    return
        url, headers_seen, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers_seen)
        super().on_headers_complete()

    def _is_free(self) -> bool:
        """Whether nothing of this connection is still to be answered or sent."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return (
            (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and self.limit_concurrency is None
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
        )

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if self._target is None:
            super().on_body(body)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Begin a direct call; uvicorn's have begun with their head."""
        target = self._target
        if target is None:
            super().on_message_complete()
            return
        parts = self._body
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._target, self._body = None, []
        turn = self._turn = _Turn(self._NO_EVENT)
        self.cycle = cast("RequestResponseCycle", turn)
        turn.call = self._direct.begin(
            target,
            self._call_headers,
            body,
            caller=self._caller,
            client=self._client(),
            respond=self._respond,
        )

    @property
    def _port(self) -> int | None:
        return self.server[1] if self.server else None

    def _client(self) -> str:
        return self.client[0] if self.client else ""

    def _respond(self, status: int, head: bytes, body: bytes) -> None:
        """Write a whole answer and let the connection's next call have its turn."""
        turn = self._turn
        if turn is None:
            return
        self._turn = None
        lines = [STATUS_LINE[status]]
        for name, value in self.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
        lines.append(head)
        if not turn.keep_alive:
            lines.append(b"connection: close\r\n")
        lines += (b"\r\n", body)
        self.transport.write(b"".join(lines))
        turn.response_complete = True
        if not turn.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was under way: nobody is left to answer."""
        target, turn = self._target, self._turn
        self._target = self._turn = None
        super().connection_lost(exc)
        if target is not None:
            received = sum(map(len, self._body))
            self._direct.abandon(target, client=self._client(), received=received)
        if turn is not None and turn.call is not None:
            turn.call.cancel()
