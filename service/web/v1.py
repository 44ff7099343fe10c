"""The V1 protocol: instances in, predictions out, and what is known about the models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.arrays import kind_of
from service.contract import Contract
from service.errors import InvalidRequest, ModelNotReady, NotBuilt
from service.predictor import Answered
from service.registry import ModelView, State
from service.web import cloudevents, tfserving
from service.web.content import Received, received
from service.web.exchange import (
    MODEL,
    OFF_LOOP_BYTES,
    VERSION,
    Models,
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
from service.web.routes import not_ready
from service.web.skim import Skimmer

# TensorFlow Serving's words for the life of a version.
_STATUS = {
    State.PENDING: "START",
    State.READY: "AVAILABLE",
    State.DRAINING: "UNLOADING",
    State.FAILED: "END",
    State.UNLOADED: "END",
}
_POST_ONLY = frozenset({"predict", "explain"})


@dataclass(frozen=True, slots=True)
class Call:
    """A decoded request, and the keys under which its answer is expected.

    ``contract`` is there where columns are asked for; ``whole`` means that the only instance holds
    tensors without a batch axis.
    """

    instances: list[object]
    predictions: bool = True
    contract: Contract | None = None
    whole: bool = False

    def answer(self, answered: Answered) -> dict[str, object]:
        """Return the answer's JSON object."""
        content: dict[str, object] = {}
        if self.predictions:
            content["predictions"] = answered.predictions
        if self.contract is not None:
            content["outputs"] = tfserving.outputs_of(
                answered.predictions, self.contract, whole=self.whole
            )
        return content


def model_and_version(scope: Scope, models: Models) -> tuple[str, int | None]:
    """Return what the path names: by version, of which 0 is the latest, by label, or neither."""
    label = scope["path_params"].get("label")
    name, version = model_of(scope)
    if label is not None:
        return name, models.version_of_label(name, label)
    return name, version or None


def decode_call(request: Mapping[str, Any], contract: Callable[[], Contract]) -> Call:
    """Return the instances of a request; raises InvalidRequest that names what is wrong.

    Rows stand under ``instances``.  Under ``inputs`` an object holds columns, as TensorFlow Serving
    takes them; an array there is KServe's word for instances and TensorFlow Serving's only column
    at once, so it is answered under both their keys.
    """
    tfserving.check_signature(request.get("signature_name"))
    if "instances" in request and "inputs" in request:
        raise InvalidRequest("instances, inputs: give one of them, not both")
    if "inputs" not in request:
        return Call(_array(request, "instances"))
    inputs = request["inputs"]
    if isinstance(inputs, (list, np.ndarray)) and not tfserving.is_whole_tensor(inputs, contract()):
        return Call(_array(request, "inputs"), contract=contract())
    columns = tfserving.columns_of(inputs, contract())
    return Call(columns.instances, predictions=False, contract=contract(), whole=columns.whole)


def _array(request: Mapping[str, Any], key: str) -> list[object]:
    if key not in request:
        raise InvalidRequest(f"{key}: missing, expected an array of inputs")
    instances = request[key]
    if isinstance(instances, np.ndarray):
        return list(instances)
    if not isinstance(instances, list):
        raise InvalidRequest(f"{key}: expected an array, got {kind_of(instances)}")
    if not instances:
        raise InvalidRequest(f"{key}: empty, at least one is needed")
    return instances


def contract_of(models: Models, name: str, version: int | None) -> Contract:
    """Return the contract of a version that answers; raises ModelNotFound or ModelNotReady."""
    view = models.view(name, version)
    if view.contract is None or view.state is not State.READY:
        raise ModelNotReady(not_ready(view))
    return view.contract


class Predict:
    """POST /v1/models/{name}[/versions/{version} | /labels/{label}]:predict.

    A body of type ``image/*`` is one picture; everything else is JSON, whatever its type says.
    """

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
        name, version = model_and_version(scope, self._models)
        deadline = deadline_of(headers, started, default=self._options.deadline)
        body = await read_body(
            receive, headers, max_decompressed=self._options.max_decompressed_bytes
        )
        received = await self._received(headers, body, name, version)
        if isinstance(received.content, bytes):
            if not received.content:
                raise InvalidRequest("body: empty, expected a picture")
            call = Call([])
            work = self._answers.predict_raw(
                name, version, received.content, received.media_type, deadline=deadline
            )
        else:
            call = self._decoded(received.content, name, version)
            work = self._answers.predict(name, version, call.instances, deadline=deadline)
        scope[MODEL] = name
        answered = await while_connected(receive, work)
        scope[VERSION] = answered.version
        await send_answer(send, call.answer(answered), answered, received.event)

    async def _received(
        self, headers: Mapping[bytes, bytes], body: bytes, name: str, version: int | None
    ) -> Received:
        max_depth = self._options.max_json_depth
        with self._better_news(name, version):
            if len(body) > OFF_LOOP_BYTES:
                # With a parser of its own, which another thread needs.
                return await asyncio.to_thread(
                    received, headers, body, max_depth=max_depth, skimmer=Skimmer()
                )
            return received(headers, body, max_depth=max_depth, skimmer=self._skimmer)

    def _decoded(self, content: dict[str, Any], name: str, version: int | None) -> Call:
        with self._better_news(name, version):
            request = cloudevents.request_of(content)
            return decode_call(request, lambda: contract_of(self._models, name, version))

    @contextmanager
    def _better_news(self, name: str, version: int | None) -> Iterator[None]:
        """That there is no such model is told before what is wrong with the body."""
        try:
            yield
        except InvalidRequest:
            self._models.view(name, version)
            raise


async def send_answer(
    send: Send, content: Mapping[str, object], answered: Answered, event: cloudevents.Event | None
) -> None:
    """Send the answer as JSON, null for NaN and infinities; an event is answered by an event."""
    if event is None:
        await send_json(send, _dumped(content))
        return
    attributes = cloudevents.attributes_of(answered.model)
    if event.binary:
        await send_json(send, _dumped(content), headers=cloudevents.headers_for(attributes))
        return
    body = cloudevents.body_for(attributes, content)
    await send_json(send, body, media_type=cloudevents.STRUCTURED.encode())


def _dumped(content: Mapping[str, object]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


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
        name, version = model_and_version(request.scope, self._models)
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

    async def metadata(self, request: Request) -> Response:
        """Tell a model's inputs and outputs as TensorFlow Serving does; 503 until it answers."""
        name, version = model_and_version(request.scope, self._models)
        contract = contract_of(self._models, name, version)
        found = self._models.view(name, version)
        return json_response(tfserving.metadata_of(name, found.version, contract))

    async def info(self, request: Request) -> Response:
        """Tell everything that is known: contract, evaluation, parity, provider, files, state."""
        view = self._models.view(*model_and_version(request.scope, self._models))
        head = {
            "name": view.name,
            "version": view.version,
            "state": view.state,
            "reason": view.reason,
            "versions": [v.version for v in self._models.views() if v.name == view.name],
        }
        return json_response({**head, **view.info})

    async def explain(self, request: Request) -> Response:
        """Refuse to explain a model that there is: 501."""
        view = self._models.view(*model_and_version(request.scope, self._models))
        raise NotBuilt(f"model '{view.name}': explanations are not built")


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
        """Refuse: 405 for a verb with a wrong method, 404 for a verb that does not exist."""
        del receive, send
        if scope["path_params"]["verb"] in _POST_ONLY:
            raise HTTPException(405, headers={"Allow": "POST"})
        raise HTTPException(404)
