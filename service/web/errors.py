"""From an error to a status and a body: one table, one shape."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service import tracing
from service.errors import Overloaded, QuotaExceeded, ServiceError, Unauthenticated
from service.logs import printable
from service.metrics import Metrics
from service.web.encoding import ACCEPTED, UnsupportedEncoding
from service.web.exchange import ERROR_CODE, MODEL

STATUS: Mapping[str, int] = {
    "invalid_request": 400,
    "host_not_allowed": 400,
    "load_refused": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "model_not_found": 404,
    "not_acceptable": 406,
    "too_large": 413,
    "unsupported_media_type": 415,
    "quota_exceeded": 429,
    "engine_failure": 500,
    "not_built": 501,
    "model_not_ready": 503,
    "audit_unavailable": 503,
    "overloaded": 503,
    "process_ended": 503,
    "control_disabled": 503,
    "device_full": 503,
    "device_lost": 503,
    "deadline_exceeded": 504,
    "out_of_memory": 507,
}
_BEFORE_A_MODEL = frozenset({"model_not_found", "model_not_ready"})
_log = logging.getLogger("onnxport.web")


def error_response(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``{"error": text}`` as exactly ``application/json``, which clients compare with."""
    # `Response` adds a charset only to text types.
    return Response(orjson.dumps({"error": text}), status, dict(headers or {}), "application/json")


def error_parts(text: str, headers: Mapping[str, str]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return headers and body of such an answer for a road that has no response objects."""
    head = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return [*head, (b"content-type", b"application/json")], orjson.dumps({"error": text})


class ErrorAnswers:
    """The exception handlers of the application; they count what no model has counted."""

    def __init__(self, metrics: Metrics) -> None:
        """Keep the instruments."""
        self._metrics = metrics

    async def service_error(self, request: Request, error: Exception) -> Response:
        """Answer one of our own errors; what has no status is a fault of ours and stays inside."""
        code = error.code if isinstance(error, ServiceError) else "internal"
        request.scope[ERROR_CODE] = code
        if not isinstance(error, ServiceError):
            return internal_error()
        status, text, headers = self.answer(error, known=MODEL in request.scope)
        return error_response(status, text, headers)

    def answer(self, error: ServiceError, *, known: bool) -> tuple[int, str, dict[str, str]]:
        """Return status, text and headers, and count what no model has counted.

        ``known`` says that a model was named and so has counted the error, if it was there.
        """
        code = error.code
        status = STATUS.get(code, 500)
        if not known or code in _BEFORE_A_MODEL:
            self._metrics.refused(code)
        if status == 500:
            _log.error("%s: %s", code, error, exc_info=error)
        text = str(error) if code in STATUS else internal_text()
        return status, text, _headers(error, code)

    async def http_error(self, request: Request, error: Exception) -> Response:
        """Answer an unknown path or a wrong method."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        self._metrics.refused("not_found" if status == 404 else "method_not_allowed")
        path = printable(request.scope["path"][:256])
        if status == 405:
            allowed = (headers or {}).get("Allow", "another method")
            text = f"method {request.method} is not allowed on {path}, use {allowed}"
        else:
            text = f"no such path: {path}; the roads are listed in /docs and /openapi.json"
        return error_response(status, text, headers)

    async def validation_error(self, request: Request, error: Exception) -> Response:
        """Answer what FastAPI itself refuses, in our shape."""
        del request
        self._metrics.refused("invalid_request")
        problems = error.errors() if isinstance(error, RequestValidationError) else []
        texts = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems]
        return error_response(400, "; ".join(texts) or "the request is not valid")


def internal_error() -> Response:
    """Return a 500 that reveals nothing but the id under which the log knows more."""
    return error_response(500, internal_text())


def internal_text() -> str:
    """Return the text of such a 500."""
    return f"internal error, the log has it under request id {tracing.request_id()}"


def _headers(error: Exception, code: str) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        # As RFC 6750 has it: without a reason where nothing was shown.
        wrong = ', error="invalid_token"' if error.shown else ""
        return {"WWW-Authenticate": f'Bearer realm="onnxport"{wrong}'}
    if isinstance(error, Overloaded | QuotaExceeded):
        return {"Retry-After": str(error.retry_after)}
    if code in ("model_not_ready", "device_lost"):
        return {"Retry-After": "1"}
    return {"Accept-Encoding": ACCEPTED} if isinstance(error, UnsupportedEncoding) else {}
