"""One connection: our protocol class for uvicorn, with limits of its own and a road of its own.

The stock parser neither bounds a head nor closes a connection that sends one slowly, and answers
what it cannot parse with text.  Here every connection is bounded in bytes and time, and whatever
is refused is refused in JSON.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.access import ANYBODY
from service.metrics import Metrics
from service.web.direct import DirectRoad, Head, Target, is_plain, target_of
from service.web.errors import error_parts
from service.web.limits import ByteBudget, EdgeLimits, Phase, Progress, overdue
from service.web.turn import Turn, response_bytes
from service.web.visit import Visits

_RETRY = {"Retry-After": "1"}
_LONGEST_NUMBER = 18
_FRESH_SECONDS = 0.25


class Shared(Protocol):
    """What a connection needs of the edge that it belongs to."""

    direct: DirectRoad
    limits: EdgeLimits
    metrics: Metrics
    visits: Visits
    budget: ByteBudget
    draining: bool

    def opened(self, connection: Connection) -> bool:
        """Take a connection in, and say whether there is room for it."""
        ...

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        ...


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, within limits, in which a plain infer call takes the direct road.

    Such a call is answered without an ASGI scope, task or message.  All others, and those that
    arrive while an earlier one of their connection is being answered, go uvicorn's own way.
    """

    def __init__(
        self,
        edge: Shared,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        """Build what uvicorn builds; ``edge`` is what all connections share.

        ``on_end`` is called when the connection has ended, if it ever began.
        """
        super().__init__(config, server_state, app_state, _loop)
        self.url = b""
        self.headers = []
        self._edge = edge
        self._on_end = on_end
        self._target: Target | None = None
        self._turn: Turn | None = None
        self._caller = ANYBODY
        self._call_headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._chunked = False
        self._deaf = False
        self._head_bytes = 0
        self._held = 0
        now = time.monotonic()
        self._progress = Progress(Phase.HEAD, now, now)

    # The connection

    # As uvicorn's own: it takes more than asyncio's base class promises to give.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; over the cap a caller is told so."""
        super().connection_made(transport)
        if not self._edge.opened(self):
            self._refuse(503, "the server has too many connections", "overloaded", _RETRY)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was under way: nobody is left to answer."""
        target, turn = self._target, self._turn
        self._target = self._turn = None
        self._edge.closed(self)
        if self._on_end is not None:
            self._on_end()
        self._give_back()
        super().connection_lost(exc)
        if target is not None:
            received = sum(map(len, self._body))
            self._edge.direct.abandon(target, client=self._client(), received=received)
        if turn is not None and turn.call is not None:
            turn.call.cancel()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, within the limits of a head; a refused caller is not heard."""
        progress = self._progress
        if self._deaf:
            return
        if progress.phase is Phase.IDLE:
            progress.enter(Phase.HEAD, time.monotonic())
            self._head_bytes = 0
        elif progress.phase is Phase.BODY:
            progress.heard(len(data), time.monotonic())
        before = progress.phase
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request itself is answered, as one without the wish; what follows is not HTTP.
            self._end_after_answers()
        except httptools.HttpParserError:
            self._refuse(400, "the request is not valid HTTP", "invalid_request")
        # Bytes that have ended a body are no head, however many came with it.
        if progress.phase is before and before in (Phase.HEAD, Phase.BUSY):
            self._count_head(len(data))

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes <= self._edge.limits.head_bytes:
            return
        if self._progress.phase is Phase.BUSY:
            # The next call's head can wait until there is an answer to this one.
            self.flow.pause_reading()
        else:
            self._refuse_head(f"{self._edge.limits.head_bytes} bytes")

    def check(self, now: float) -> None:
        """End a connection that takes too long for whatever it does; called once a second."""
        transport = self.transport
        self._progress.wrote(transport.get_write_buffer_size(), now)
        late = overdue(self._progress, self._edge.limits, now)
        if not late:
            return
        if late in ("read", "ending") or transport.is_closing():
            transport.abort()
        elif late == "idle" or self._is_answered() or (late == "head" and not self._head_bytes):
            transport.close()
        else:
            self._refuse(408, f"the {late} of the request comes too slowly", "too_slow")

    def leave(self) -> None:
        """Let the answer that is under way, if there is one, be the last."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False

    def shutdown(self) -> None:
        """End when what was asked is answered; who asks nothing is hung up on.

        Whoever has come just now gets a moment to ask: its request is on its way.
        """
        self.leave()
        since = time.monotonic() - self._progress.since
        if self._progress.phase is Phase.HEAD and not self._head_bytes and since < _FRESH_SECONDS:
            self.loop.call_later(_FRESH_SECONDS - since, self._hang_up)
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        """Close, unless there is something to answer, or will be."""
        phase = self._progress.phase
        quiet = phase is Phase.IDLE or (phase is Phase.HEAD and not self._head_bytes)
        if self.transport.is_closing():
            return
        if phase is Phase.ENDING or (quiet and self._is_free() and not self._has_unread()):
            self.transport.close()

    def _has_unread(self) -> bool:
        """Whether the kernel holds bytes of the caller: a request that would be lost."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def timeout_keep_alive_handler(self) -> None:
        """Do nothing: `check` looks after idle connections."""

    # The parser's reports

    def on_message_begin(self) -> None:
        """Start a head; the scope is built only for calls that need one."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._target = None
        self._chunked = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, if there are not too many."""
        super().on_header(name, value)
        if len(self.headers) > self._edge.limits.headers:
            self._refuse_head(f"{self._edge.limits.headers} headers")

    def on_headers_complete(self) -> None:
        """Choose the road, if the body that is announced may come."""
        if self._deaf:
            return
        headers = dict(self.headers)
        self._chunked = b"transfer-encoding" in headers
        size = headers.get(b"content-length", b"0")
        length = int(size) if size.isdigit() and len(size) <= _LONGEST_NUMBER else 0
        if not self._may_come(length):
            return
        free = self._is_free()
        if free:
            self._progress.enter(Phase.BODY, time.monotonic())
        target = target_of(self.url)
        if target is not None and free and self._can_go_direct(headers):
            caller = self._edge.direct.admit(target, self.headers, self._port)
            if caller is not None:
                self._target, self._call_headers, self._body = target, headers, []
                self._caller = caller
                return
        self._take_asgi()

    def _take_asgi(self) -> None:
        """Build what uvicorn's own way needs, and go it."""
        url, seen, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(seen)
        super().on_headers_complete()
        if self._edge.draining:
            self.leave()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if self._deaf:
            return
        if self._target is not None:
            self._body.append(body)
        # Announced bytes are counted already, those of chunks as they come.
        elif not self._chunked or self._may_come(len(body)):
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin a direct call; uvicorn's have begun with their head."""
        if self._deaf:
            return
        self._head_bytes = 0
        target = self._target
        if target is None:
            if self._progress.phase is Phase.BODY:
                self._progress.enter(
                    Phase.IDLE if self._is_answered() else Phase.BUSY, time.monotonic()
                )
            super().on_message_complete()
            return
        self._progress.phase = Phase.BUSY
        parts = self._body
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._target, self._body = None, []
        turn = self._turn = Turn()
        self.cycle = cast("RequestResponseCycle", turn)
        turn.call = self._edge.direct.begin(
            target,
            self._call_headers,
            body,
            caller=self._caller,
            client=self._client(),
            respond=self._respond,
        )

    # What may come, and where to

    def _may_come(self, size: int) -> bool:
        """Whether a body, or a part of one, may come; else the caller is told why not."""
        limit = self._edge.limits.body_bytes
        if size > limit:
            text = f"body: at most {limit} bytes are allowed, got {size} bytes"
            self._refuse(413, text, "too_large")
        elif self._edge.budget.take(size):
            self._held += size
            return True
        else:
            text = "the server holds too many bytes of requests"
            self._refuse(503, text, "overloaded", _RETRY)
        return False

    def _give_back(self) -> None:
        self._edge.budget.give(self._held)
        self._held = 0

    def _is_free(self) -> bool:
        """Whether nothing of this connection is still to be answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    def _is_answered(self) -> bool:
        """Whether a request was answered before its body was whole."""
        return self._progress.phase is Phase.BODY and self._target is None and self._is_free()

    def _can_go_direct(self, headers: Mapping[bytes, bytes]) -> bool:
        return (
            is_plain(headers, self._edge.direct.max_body_bytes)
            and not self.flow.write_paused
            and self.limit_concurrency is None
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
        )

    @property
    def _port(self) -> int | None:
        """The port of ours that the caller has come in by, None for a socket without one."""
        return self.server[1] if self.server else None

    def _client(self) -> str:
        return self.client[0] if self.client else ""

    # Answers

    def _respond(self, status: int, head: Head, body: bytes) -> None:
        """Write a whole answer and let the connection's next call have its turn."""
        turn = self._turn
        if turn is None:
            return
        self._turn = None
        last = self._edge.draining or not turn.keep_alive
        self._write(status, head, body, close=last)
        turn.response_complete = True
        if last:
            self.transport.close()
        self.on_response_complete()

    def _write(self, status: int, head: Head, body: bytes, *, close: bool) -> None:
        whole = (*self.server_state.default_headers, *head)
        self.transport.write(response_bytes(status, whole, body, close=close))

    def on_response_complete(self) -> None:
        """Let the next call of the connection have its turn, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            phase = Phase.BODY if cycle.more_body else Phase.BUSY
            self._progress.enter(phase, time.monotonic())
            self._start_asgi_task(cycle, app)
            return
        self._give_back()
        if self._progress.phase is Phase.BUSY:
            self._progress.enter(Phase.IDLE, time.monotonic())

    def _end_after_answers(self) -> None:
        """Answer what is under way, hear no more, and close the connection."""
        self._deaf = True
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None or cycle.response_complete:
            self.transport.close()
        else:
            cycle.keep_alive = False

    def _refuse_head(self, limit: str) -> None:
        self._refuse(431, f"the head of the request has more than {limit}", "too_large")

    def _refuse(
        self, status: int, text: str, code: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer in the place of any road, and hear no more of this connection.

        Where an answer has begun, or is still to come to an earlier call, this one would be taken
        for it; then the connection ends with that.
        """
        if self._deaf or self.transport.is_closing():
            return
        self._edge.metrics.refused(code)
        if not self._is_free():
            cycle = self.cycle
            waits = self._progress.phase is Phase.BODY and not cycle.response_started
            if not waits:
                self._end_after_answers()
                return
            # The application waits for the rest of the body; for it, the caller has gone.
            cycle.disconnected = True
            cycle.message_event.set()
        self._deaf = True
        self._target, self._body = None, []
        self._give_back()
        self._progress.enter(Phase.ENDING, time.monotonic())
        self._tell(status, text, code, headers or {})

    def _tell(self, status: int, text: str, code: str, headers: Mapping[str, str]) -> None:
        path = self.url.decode("latin-1")
        method = self.parser.get_method().decode("latin-1") if path else ""
        visit = self._edge.visits.open(b"", method=method, path=path, client=self._client())
        head, body = error_parts(text, headers)
        self._write(status, [*head, (b"x-request-id", visit.id)], body, close=True)
        visit.status, visit.sent, visit.error = status, len(body), code
        self._edge.visits.close(visit)
        # Were it closed at once, with bytes unread, the answer could be lost on its way.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
