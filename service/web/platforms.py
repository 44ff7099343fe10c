"""The hosting platforms' roads: one path for every model, the media type says what the body is."""

from __future__ import annotations

import asyncio
import csv
import io
import math
import re
from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.arrays import MAX_DEPTH, load_json
from service.errors import InvalidRequest, ModelNotReady, NotAcceptable, UnsupportedMediaType
from service.registry import State
from service.web.exchange import (
    MODEL,
    OFF_LOOP_BYTES,
    VERSION,
    WebParts,
    deadline_of,
    headers_of,
    media_type_of,
    now,
    read_body,
    while_connected,
)
from service.web.skim import Skimmer
from service.web.v1 import Call, send_answer

TARGET = b"x-amzn-sagemaker-target-model"
BINARY = b"inference-header-content-length"
# Triton's word for a binary body, since SageMaker passes on a Content-Type but no other header.
TRITON = "application/vnd.sagemaker-triton.binary+json;json-header-size="
_KINDS = "application/json, text/csv, text/plain, image/png, image/jpeg"
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ANY_JSON = frozenset({"*/*", "application/*", "application/json"})


class Invocations:
    """POST /invocations of SageMaker, and the predict route of Vertex AI.

    JSON is V1, or V2 where ``inputs`` is an array of tensors; pictures, texts and CSV are raw
    inputs.  ``infer`` and ``predict`` are the roads of V2 and V1, which answer what is theirs.
    """

    def __init__(self, parts: WebParts, *, infer: ASGIApp, predict: ASGIApp) -> None:
        """Keep what is needed for every call."""
        self._models = parts.models
        self._answers = parts.answers
        self._options = parts.options
        self._infer = infer
        self._predict = predict

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        headers = headers_of(scope)
        media_type = media_type_of(headers)
        kind = media_type.partition(";")[0].strip()
        triton = media_type.replace(" ", "").startswith(TRITON)
        binary = triton or BINARY in headers
        if not binary:
            check_accept(headers.get(b"accept", b"").decode("latin-1"))
        name = self._model(headers)
        scope["path_params"] = {"name": name}
        if triton:
            _pass_size_on(scope, media_type)
            await self._infer(scope, receive, _telling_size(send))
        elif binary:
            await self._infer(scope, receive, send)
        elif kind in ("", "application/json"):
            await self._json(scope, receive, send, headers)
        elif kind.startswith("image/"):
            await self._predict(scope, receive, send)
        elif kind in ("text/plain", "text/csv"):
            await self._text(scope, receive, send, name)
        else:
            raise UnsupportedMediaType(
                f"Content-Type '{kind[:80]}': not understood here; send one of {_KINDS}"
            )

    def _model(self, headers: Mapping[bytes, bytes]) -> str:
        served = [view.name for view in self._models.views() if view.state is not State.UNLOADED]
        return choose_model(
            tuple(dict.fromkeys(served)),
            target=headers.get(TARGET, b"").decode("latin-1").strip(),
            default=self._options.default_model,
        )

    async def _json(
        self, scope: Scope, receive: Receive, send: Send, headers: Mapping[bytes, bytes]
    ) -> None:
        body = await read_body(
            receive, headers, max_decompressed=self._options.max_decompressed_bytes
        )
        # What was undone once must not be undone again.
        scope["headers"] = [h for h in scope["headers"] if h[0] != b"content-encoding"]
        if len(body) > OFF_LOOP_BYTES:
            tensors = await asyncio.to_thread(holds_tensors, body)
        else:
            tensors = holds_tensors(body)
        road = self._infer if tensors else self._predict
        await road(scope, _again(body, receive), send)

    async def _text(self, scope: Scope, receive: Receive, send: Send, name: str) -> None:
        started = now()
        headers = headers_of(scope)
        deadline = deadline_of(headers, started, default=self._options.deadline)
        body = await read_body(
            receive, headers, max_decompressed=self._options.max_decompressed_bytes
        )
        media_type = media_type_of(headers)
        if media_type.startswith("text/csv"):
            # Long tables take a while, and the loop must stay free meanwhile.
            rows = await asyncio.to_thread(read_csv, body)
            work = self._answers.predict(name, None, rows, deadline=deadline)
        else:
            work = self._answers.predict_raw(name, None, body, media_type, deadline=deadline)
        scope[MODEL] = name
        answered = await while_connected(receive, work)
        scope[VERSION] = answered.version
        await send_answer(send, Call([]).answer(answered), answered, None)


def choose_model(served: Sequence[str], *, target: str, default: str) -> str:
    """Return the model that a call without a model in its path means.

    ``target`` is the caller's wish, ``default`` the operator's; else it is the only one.
    """
    if target or default:
        return target or default
    if not served:
        raise ModelNotReady("no model is served yet")
    if len(served) > 1:
        raise InvalidRequest(
            f"several models are served: {', '.join(served)}; name one in the header "
            "X-Amzn-SageMaker-Target-Model, or start the server with --default-model"
        )
    return served[0]


def check_accept(accept: str) -> None:
    """Raise NotAcceptable if an Accept header leaves no room for JSON."""
    ranges = [part.replace(" ", "").lower().split(";") for part in accept.split(",")]
    wanted = {one[0] for one in ranges if one[0] and not _refused(one[1:])}
    if wanted and not wanted & _ANY_JSON:
        raise NotAcceptable(f"Accept '{accept[:80]}': answers are application/json")


def _refused(parameters: Sequence[str]) -> bool:
    return any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)


def holds_tensors(body: bytes) -> bool:
    """Whether a JSON body is V2: ``inputs`` is an array of objects that name a datatype."""
    # Most bodies of V1 are told by this word, without parsing them twice.
    if b'"datatype"' not in body:
        return False
    skimmed = Skimmer().skim(body, max_depth=MAX_DEPTH)
    try:
        request = load_json(body) if skimmed is None else skimmed
    except InvalidRequest:
        return False
    inputs = request.get("inputs") if isinstance(request, dict) else None
    return (
        isinstance(inputs, list)
        and bool(inputs)
        and all(isinstance(tensor, dict) and "datatype" in tensor for tensor in inputs)
    )


def read_csv(body: bytes) -> list[object]:
    """Return one list of numbers a line, None for an empty field; blank lines are left out.

    Raises InvalidRequest with line and column.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"body: byte {error.start} is not UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows: list[object] = [
            [_number(f, reader.line_num, column) for column, f in enumerate(fields, 1)]
            for fields in reader
            if len(fields) > 1 or "".join(fields).strip()
        ]
    except csv.Error as error:
        raise InvalidRequest(f"line {reader.line_num}: malformed CSV: {error}") from error
    if not rows:
        raise InvalidRequest("body: empty, expected lines of numbers")
    return rows


def _number(field: str, line: int, column: int) -> int | float | None:
    text = field.strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text) is None or not math.isfinite(float(text)):
        raise InvalidRequest(f"line {line}, column {column}: expected a number, got {text[:40]!r}")
    # Longer whole numbers fit no datatype, and take Python long.
    return int(text) if text.lstrip("+-").isdecimal() and len(text) <= 20 else float(text)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a channel that brings a body that has been read, and then what comes after it."""
    first = True

    async def channel() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return channel


def _pass_size_on(scope: Scope, media_type: str) -> None:
    size = media_type.replace(" ", "").removeprefix(TRITON).encode("latin-1")
    scope["headers"] = [*scope["headers"], (BINARY, size)]


def _telling_size(send: Send) -> Send:
    """Return a channel that says in the Content-Type where the JSON of a binary answer ends."""

    async def channel(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            if BINARY in headers:
                headers[b"content-type"] = TRITON.encode() + headers[BINARY]
                message = {**message, "headers": list(headers.items())}
        await send(message)

    return channel
