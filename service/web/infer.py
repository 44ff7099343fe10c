"""The fast road: V2 infer as a plain ASGI endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Receive, Scope, Send

from service.errors import ModelNotReady
from service.inference import Prediction
from service.registry import State
from service.web import binary, wire
from service.web.encoding import MIN_PACKED_BYTES, chosen, pack
from service.web.exchange import (
    MODEL,
    OFF_LOOP_BYTES,
    VERSION,
    WebParts,
    deadline_of,
    headers_of,
    model_of,
    now,
    read_body,
    while_connected,
)
from service.web.response import Encoded, encode, head_of
from service.web.skim import Skimmer
from service.web.wire import Form, InferCall


class Infer:
    """POST /v2/models/{name}[/versions/{version}]/infer; Content-Type is never looked at."""

    def __init__(self, parts: WebParts) -> None:
        """Keep what is needed for every call."""
        self._models = parts.models
        self._answers = parts.answers
        self._options = parts.options
        self._skimmer = Skimmer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        started = now()
        headers = headers_of(scope)
        name, version = model_of(scope)
        body = await read_body(
            receive, headers, max_decompressed=self._options.max_decompressed_bytes
        )
        json_bytes = binary.json_length(headers.get(binary.HEADER), len(body))
        if json_bytes == 0:
            call = self._raw(name, version, body)
        elif len(body) > OFF_LOOP_BYTES:
            # With a parser of its own, which another thread needs, and whose memory is not kept.
            call = await asyncio.to_thread(self._decode, body, json_bytes, Skimmer())
        else:
            call = self._decode(body, json_bytes, self._skimmer)
        deadline = deadline_of(
            headers, started, default=self._options.deadline, timeout=call.timeout
        )
        scope[MODEL] = name
        work = self._answers.infer(
            name, version, call.inputs, wanted=call.wanted, deadline=deadline
        )
        prediction = await while_connected(receive, work)
        scope[VERSION] = prediction.version
        await _answer(send, headers, await _encoded(call, prediction))

    def _decode(self, body: bytes, json_bytes: int | None, skimmer: Skimmer) -> InferCall:
        max_depth = self._options.max_json_depth
        return wire.decode(body, json_bytes=json_bytes, max_depth=max_depth, skimmer=skimmer)

    def _raw(self, name: str, version: int | None, body: bytes) -> InferCall:
        """Return the call whose body is the only input's bytes, without JSON."""
        view = self._models.view(name, version)
        if view.state is not State.READY:
            raise ModelNotReady(f"model '{name}' is not ready, it is {view.state}")
        return InferCall(None, binary.raw(body, view.inputs), default=Form(binary=True))


async def _encoded(call: InferCall, prediction: Prediction) -> Encoded:
    if sum(value.nbytes for value in prediction.outputs.values()) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(encode, call, prediction)
    return encode(call, prediction)


async def _answer(send: Send, headers: Mapping[bytes, bytes], answer: Encoded) -> None:
    """Send a 200, packed where the caller accepts it and it is worth it."""
    body, coding = answer.body, ""
    if len(body) >= MIN_PACKED_BYTES and (coding := chosen(headers.get(b"accept-encoding")) or ""):
        body = await pack(body, coding)
    head = head_of(answer, coding)
    head.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
