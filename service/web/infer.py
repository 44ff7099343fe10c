"""The fast road: V2 infer as a plain ASGI endpoint."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from service.errors import NotBuilt
from service.web import wire
from service.web.exchange import (
    MODEL,
    WebParts,
    deadline_of,
    headers_of,
    model_of,
    now,
    read_body,
    send_json,
    while_connected,
)


class Infer:
    """POST /v2/models/{name}[/versions/{version}]/infer; Content-Type is never looked at."""

    def __init__(self, parts: WebParts) -> None:
        """Keep what is needed for every call."""
        self._answers = parts.answers
        self._options = parts.options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        started = now()
        headers = headers_of(scope)
        name, version = model_of(scope)
        if b"inference-header-content-length" in headers:
            raise NotBuilt(
                "Inference-Header-Content-Length: the binary tensor extension is not built; "
                "send JSON data without this header"
            )
        body = await read_body(receive, headers)
        call = wire.decode(body, max_depth=self._options.max_json_depth)
        deadline = deadline_of(
            headers, started, default=self._options.deadline, timeout=call.timeout
        )
        scope[MODEL] = name
        work = self._answers.infer(
            name, version, call.inputs, wanted=call.wanted, deadline=deadline
        )
        prediction = await while_connected(receive, work)
        await send_json(send, wire.encode(call.id, prediction))
