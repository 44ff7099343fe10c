"""The outermost layer of the application: request ids, the access log, limits, the last resort."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs, tracing
from service.errors import TooLarge
from service.metrics import Metrics
from service.web.errors import error_response, internal_error
from service.web.exchange import ERROR_CODE, MODEL, PROBE, ROAD, TIMINGS, ClientGone, headers_of
from service.web.visit import Visit, Visits

_log = logging.getLogger("onnxport.web")


class Guard:
    """Pure ASGI, because a layer that costs tasks or queues would be paid by every request."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, visits: Visits, max_body_bytes: int
    ) -> None:
        """Keep the limits and where to count."""
        self._app = app
        self._metrics = metrics
        self._visits = visits
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request on and see it through to its end, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        headers = headers_of(scope)
        visit = self._visits.open(
            headers.get(b"x-request-id", b""),
            method=scope["method"],
            path=scope["path"],
            client=client[0] if client else "",
            parent=headers.get(b"traceparent", b""),
        )
        token = logs.request_id.set(visit.id.decode())
        place = tracing.current.set(visit)
        try:
            await self._guarded(scope, receive, self._sending(scope, send, visit), visit)
        finally:
            visit.road = scope.get(ROAD, visit.road)
            visit.probe = scope.get(PROBE, False)
            visit.model = scope.get(MODEL, "")
            visit.error = scope.get(ERROR_CODE, "")
            self._visits.close(visit)
            tracing.current.reset(place)
            logs.request_id.reset(token)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> None:
        try:
            length = headers_of(scope).get(b"content-length", b"")
            if length.isdigit() and int(length) > self._max_body_bytes:
                scope[ERROR_CODE] = TooLarge.code
                self._metrics.refused(TooLarge.code)
                await error_response(413, self._too_large(int(length)))(scope, receive, send)
                return
            await self._app(scope, self._receiving(receive, visit), send)
        except ClientGone:
            scope[ERROR_CODE] = "client_gone"
        # The last resort of every road: the caller gets JSON and the id, the log gets the rest.
        except Exception:
            scope[ERROR_CODE] = "internal"
            _log.exception("unexpected error")
            if visit.status:
                # Half an answer cannot be mended; the server closes the connection.
                raise
            await internal_error()(scope, receive, send)

    def _receiving(self, receive: Receive, visit: Visit) -> Receive:
        async def counted() -> Message:
            message = await receive()
            visit.received += len(message.get("body", b""))
            if visit.received > self._max_body_bytes:
                raise TooLarge(self._too_large(None))
            return message

        return counted

    def _sending(self, scope: Scope, send: Send, visit: Visit) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                visit.timings = scope.get(TIMINGS)
                message["headers"] = [*message.get("headers", ()), *visit.head()]
            else:
                visit.sent += len(message.get("body", b""))
            await send(message)

        return counted

    def _too_large(self, length: int | None) -> str:
        seen = "more" if length is None else f"{length} bytes"
        return f"body: at most {self._max_body_bytes} bytes are allowed, got {seen}"
