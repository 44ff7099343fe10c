"""The outermost layer of the application: request ids, the access log, limits, the last resort."""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs
from service.errors import ServiceError, TooLarge
from service.web.errors import ErrorAnswers, error_response, internal_error
from service.web.exchange import (
    CALLER,
    ERROR_CODE,
    MODEL,
    PROBE,
    ROAD,
    VERSION,
    ClientGone,
    headers_of,
    path_of,
)
from service.web.security import Gate
from service.web.visit import Visit, Visits

_log = logging.getLogger("onnxport.web")


class Guard:
    """Pure ASGI, because a layer that costs tasks or queues would be paid by every request."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        gate: Gate,
        public: Callable[[str, str], bool],
        errors: ErrorAnswers,
        visits: Visits,
        max_body_bytes: int,
    ) -> None:
        """Keep the limits, who lets callers in, and where to count.

        ``public`` says of method and path whether they need no key; all else needs one, be there
        a road or not.
        """
        self._app = app
        self._gate = gate
        self._public = public
        self._errors = errors
        self._visits = visits
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an HTTP request on and see it through to its end, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        visit = self._visits.open(
            headers_of(scope).get(b"x-request-id", b""),
            method=scope["method"],
            path=scope["path"],
            client=client[0] if client else "",
        )
        token = logs.request_id.set(visit.id.decode())
        try:
            await self._guarded(scope, receive, self._sending(send, visit), visit)
        finally:
            visit.caller = scope[CALLER].name if CALLER in scope else ""
            visit.road = scope.get(ROAD, visit.road)
            visit.probe = scope.get(PROBE, False)
            visit.model = scope.get(MODEL, "")
            visit.version = scope.get(VERSION)
            visit.error = scope.get(ERROR_CODE, "")
            self._visits.close(visit)
            logs.request_id.reset(token)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> None:
        try:
            try:
                self._admit(scope)
            except ServiceError as error:
                await self._refuse(error, scope, receive, send)
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

    def _admit(self, scope: Scope) -> None:
        """Note who calls; raise what stands in the way before a byte of the body is read."""
        public = self._public(scope["method"], path_of(scope))
        scope[CALLER] = self._gate.identify(scope["headers"], public=public)
        length = headers_of(scope).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise TooLarge(self._too_large(int(length)))

    async def _refuse(
        self, error: ServiceError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        scope[ERROR_CODE] = error.code
        status, text, headers = self._errors.answer(error, known=False)
        await error_response(status, text, headers)(scope, receive, send)

    def _receiving(self, receive: Receive, visit: Visit) -> Receive:
        async def counted() -> Message:
            message = await receive()
            body = message.get("body", b"")
            visit.received += len(body)
            if visit.hashes is not None:
                visit.hashes.asked.update(body)
            if visit.received > self._max_body_bytes:
                raise TooLarge(self._too_large(None))
            return message

        return counted

    def _sending(self, send: Send, visit: Visit) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", visit.id)]
            else:
                body = message.get("body", b"")
                visit.sent += len(body)
                if visit.hashes is not None:
                    visit.hashes.answered.update(body)
            await send(message)

        return counted

    def _too_large(self, length: int | None) -> str:
        seen = "more" if length is None else f"{length} bytes"
        return f"body: at most {self._max_body_bytes} bytes are allowed, got {seen}"
