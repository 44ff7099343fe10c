"""The V1 protocol: instances in, predictions out, and what is known about the models."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.arrays import kind_of
from service.errors import InvalidRequest
from service.predictor import Answered
from service.registry import ModelView, State
from service.web import wire
from service.web.exchange import (
    MODEL,
    WebParts,
    deadline_of,
    headers_of,
    json_response,
    model_of,
    now,
    read_body,
    send_json,
    while_connected,
)

# TensorFlow Serving's words for the life of a version.
_STATUS = {
    State.PENDING: "START",
    State.READY: "AVAILABLE",
    State.DRAINING: "UNLOADING",
    State.FAILED: "END",
    State.UNLOADED: "END",
}


class Predict:
    """POST /v1/models/{name}[/versions/{version}]:predict.

    A body of type ``image/*`` is one picture; everything else is JSON, whatever its type says.
    """

    def __init__(self, parts: WebParts) -> None:
        """Keep what is needed for every call."""
        self._answers = parts.answers
        self._options = parts.options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        started = now()
        headers = headers_of(scope)
        name, version = model_of(scope)
        deadline = deadline_of(headers, started, default=self._options.deadline)
        body = await read_body(
            receive, headers, max_decompressed=self._options.max_decompressed_bytes
        )
        media_type = headers.get(b"content-type", b"").decode("latin-1").lower()
        work: Coroutine[Any, Any, Answered]
        if media_type.startswith("image/"):
            if not body:
                raise InvalidRequest("body: empty, expected a picture")
            work = self._answers.predict_raw(name, version, body, media_type, deadline=deadline)
        else:
            instances = decode_instances(body, max_depth=self._options.max_json_depth)
            work = self._answers.predict(name, version, instances, deadline=deadline)
        scope[MODEL] = name
        answered = await while_connected(receive, work)
        await send_json(send, encode_predictions(answered))


def decode_instances(body: bytes, *, max_depth: int) -> list[object]:
    """Return the instances of a request; raises InvalidRequest that names what is wrong."""
    request = wire.load_object(body, max_depth=max_depth)
    if "instances" not in request:
        raise InvalidRequest("instances: missing, expected an array of inputs")
    instances = request["instances"]
    if not isinstance(instances, list):
        raise InvalidRequest(f"instances: expected an array, got {kind_of(instances)}")
    if not instances:
        raise InvalidRequest("instances: empty, at least one is needed")
    return instances


def encode_predictions(answered: Answered) -> bytes:
    """Return the answer as JSON, null for NaN and infinities."""
    return orjson.dumps({"predictions": answered.predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


class ModelRoads:
    """The GET roads below /v1/models."""

    def __init__(self, parts: WebParts) -> None:
        """Keep what the roads ask."""
        self._models = parts.models

    async def index(self, request: Request) -> Response:
        """List the models' names."""
        del request
        return json_response({"models": list(dict.fromkeys(v.name for v in self._models.views()))})

    async def status(self, request: Request) -> Response:
        """Say whether a model answers: KServe's and TensorFlow Serving's words together."""
        name, version = model_of(request.scope)
        found = self._models.view(name, version)
        ready = found.state is State.READY
        versions = [
            _version_status(view)
            for view in self._models.views()
            if view.name == name and version in (None, view.version)
        ]
        content = {"name": name, "ready": ready, "model_version_status": versions}
        if ready:
            return json_response(content)
        text = f"model '{name}' is {found.state}" + (f": {found.reason}" if found.reason else "")
        return json_response({**content, "error": text}, 503, {"Retry-After": "1"})

    async def info(self, request: Request) -> Response:
        """Tell everything that is known: contract, evaluation, parity, provider, files, state."""
        view = self._models.view(*model_of(request.scope))
        head = {
            "name": view.name,
            "version": view.version,
            "state": view.state,
            "reason": view.reason,
            "versions": [v.version for v in self._models.views() if v.name == view.name],
        }
        return json_response({**head, **view.info})


def _version_status(view: ModelView) -> dict[str, object]:
    failed = view.state is State.FAILED
    return {
        "version": str(view.version),
        "state": _STATUS.get(view.state, "LOADING"),
        "status": {
            "error_code": "INTERNAL" if failed else "OK",
            "error_message": view.reason,
        },
    }


class OtherVerb:
    """Any other method or verb behind the colon of a V1 path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse: 405 for predict with a wrong method, 404 for a verb that does not exist."""
        del receive, send
        if scope["path_params"]["verb"] == "predict":
            raise HTTPException(405, headers={"Allow": "POST"})
        raise HTTPException(404)
