"""The outermost layer of the application: request ids, the access log, limits, the last resort."""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs
from service.errors import TooLarge
from service.metrics import Metrics
from service.web.errors import error_response, internal_error
from service.web.exchange import ERROR_CODE, MODEL, PROBE, ROAD, ClientGone, headers_of

CLIENT_GONE = 499
_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_log = logging.getLogger("onnxport.web")


@dataclass(slots=True)
class _Count:
    """What is seen of one exchange from outside; changed by the wrapped receive and send."""

    received: int = 0
    sent: int = 0
    status: int = 0


class Guard:
    """Pure ASGI, because a layer that costs tasks or queues would be paid by every request."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, max_body_bytes: int, access_log: bool = True
    ) -> None:
        """Keep the limits and where to count."""
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request on and see it through to its end, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        headers = headers_of(scope)
        sent_id = headers.get(b"x-request-id", b"")
        name = sent_id if _ID.fullmatch(sent_id) else uuid.uuid4().hex.encode()
        token = logs.request_id.set(name.decode())
        count = _Count()
        self._metrics.started()
        try:
            counted_send = self._sending(send, count, name)
            await self._guarded(scope, receive, counted_send, count)
        finally:
            status = count.status or CLIENT_GONE
            self._metrics.ended(scope.get(ROAD, "unknown"), status)
            if self._access_log:
                _write_line(scope, count, status, time.monotonic() - started)
            logs.request_id.reset(token)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, count: _Count) -> None:
        try:
            length = headers_of(scope).get(b"content-length", b"")
            if length.isdigit() and int(length) > self._max_body_bytes:
                scope[ERROR_CODE] = TooLarge.code
                self._metrics.refused(TooLarge.code)
                await error_response(413, self._too_large(int(length)))(scope, receive, send)
                return
            await self._app(scope, self._receiving(receive, count), send)
        except ClientGone:
            scope[ERROR_CODE] = "client_gone"
        # The last resort of every road: the caller gets JSON and the id, the log gets the rest.
        except Exception:
            scope[ERROR_CODE] = "internal"
            _log.exception("unexpected error")
            if count.status:
                # Half an answer cannot be mended; the server closes the connection.
                raise
            await internal_error()(scope, receive, send)

    def _receiving(self, receive: Receive, count: _Count) -> Receive:
        async def counted() -> Message:
            message = await receive()
            count.received += len(message.get("body", b""))
            if count.received > self._max_body_bytes:
                raise TooLarge(self._too_large(None))
            return message

        return counted

    def _sending(self, send: Send, count: _Count, name: bytes) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                count.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name)]
            else:
                count.sent += len(message.get("body", b""))
            await send(message)

        return counted

    def _too_large(self, length: int | None) -> str:
        seen = "more" if length is None else f"{length} bytes"
        return f"body: at most {self._max_body_bytes} bytes are allowed, got {seen}"


def _write_line(scope: Scope, count: _Count, status: int, seconds: float) -> None:
    client = scope.get("client")
    fields: dict[str, object] = {
        "method": scope["method"],
        "path": scope["path"][:256],
        "status": status,
        "milliseconds": round(seconds * 1000, 2),
        "bytes_in": count.received,
        "bytes_out": count.sent,
        "client": client[0] if client else "",
    }
    if MODEL in scope:
        fields["model"] = scope[MODEL]
    if ERROR_CODE in scope:
        fields["error"] = scope[ERROR_CODE]
    logs.access(fields, quiet=scope.get(PROBE, False) and status < 400)
