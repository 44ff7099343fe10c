"""Every call of the API as a value: what to send and how to read the answer."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import quote

import numpy as np
import orjson

from service.client import replies as read
from service.client.arrays import dump_json, encode_tensor, is_finite
from service.client.errors import BadAnswer, InvalidInput
from service.client.instances import PICTURES, Instances, encode_instances, read_file
from service.client.replies import Reply
from service.client.values import (
    Answer,
    BFloat16,
    IndexEntry,
    InferResult,
    JsonObject,
    ModelMetadata,
    Prediction,
    ServerMetadata,
)
from service.tensors import Tensor

T = TypeVar("T")

SMALLEST_COMPRESSED = 1024
_JSON = {"Content-Type": "application/json"}
# What says "no" rather than "wrong" on a road of health: Triton answers 400, others 503.
_HEALTH = frozenset({200, 400, 503})


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request without its host, and how a reply becomes a value.

    ``idempotent`` says that running it twice does no harm; ``retried`` that a failure may be met
    with another attempt at all, which a question about health must not.
    """

    method: str
    path: str
    read: Callable[[Reply], T]
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    statuses: frozenset[int] = frozenset({200})
    idempotent: bool = True
    retried: bool = True

    def value_of(self, reply: Reply) -> T:
        """Return what the reply says; raises the error that it stands for."""
        if reply.status not in self.statuses:
            raise read.error_of(reply)
        return self.read(reply)

    def compressed(self) -> Call[T]:
        """Return the same call with a gzip body, where that is worth the time."""
        if len(self.content) < SMALLEST_COMPRESSED:
            return self
        packed = gzip.compress(self.content, compresslevel=1, mtime=0)
        return replace(self, content=packed, headers={**self.headers, "Content-Encoding": "gzip"})


def _model(prefix: str, model: str, version: int | str | None = None) -> str:
    if model in ("", ".", ".."):
        raise InvalidInput(f"model: {model!r} is no name of a model")
    path = f"{prefix}/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(str(version), safe='')}"


@dataclass(frozen=True, slots=True)
class InferOptions:
    """What an infer call may carry beside its inputs."""

    outputs: Sequence[str] | None = None
    version: int | str | None = None
    binary: bool = True
    id: str | None = None
    priority: int | None = None


def infer(
    model: str, inputs: Mapping[str, Tensor | BFloat16], options: InferOptions
) -> Call[InferResult]:
    """Run a graph on its own tensors."""
    tensors = [encode_tensor(name, one, binary=options.binary) for name, one in inputs.items()]
    members = [tensor.member for tensor in tensors]
    finite = options.binary or all(
        is_finite(one) for one in inputs.values() if isinstance(one, np.ndarray)
    )
    head = dump_json({**_request(options), "inputs": members}, finite=finite)
    headers = dict(_JSON)
    if options.binary:
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        }
    return Call(
        "POST",
        f"{_model('/v2', model, options.version)}/infer",
        read.read_infer,
        b"".join([head, *(tensor.blob for tensor in tensors)]),
        headers,
    )


def _request(options: InferOptions) -> dict[str, object]:
    request: dict[str, object] = {} if options.id is None else {"id": options.id}
    parameters: dict[str, object] = {}
    if options.priority is not None:
        parameters["priority"] = options.priority
    if options.outputs is not None:
        form = {"parameters": {"binary_data": True}} if options.binary else {}
        request["outputs"] = [{"name": name, **form} for name in options.outputs]
    elif options.binary:
        parameters["binary_data_output"] = True
    return {**request, "parameters": parameters} if parameters else request


def predict(model: str, instances: Instances, version: int | None) -> Call[list[Answer]]:
    """Answer raw inputs, one answer an instance."""
    path = f"{_model('/v1', model, version)}:predict"
    return Call("POST", path, read.read_predictions, encode_instances(instances), _JSON)


def classify(model: str, instances: Instances, version: int | None) -> Call[list[Prediction]]:
    """Answer raw inputs with a model that must be a classifier."""
    call = predict(model, instances, version)
    return Call(call.method, call.path, read.read_classes, call.content, call.headers)


def predict_file(model: str, file: Path, version: int | None) -> Call[Answer]:
    """Answer one file; a picture is the body as it lies on disk."""
    media_type = PICTURES.get(file.suffix.lower())
    if media_type is None:
        call = predict(model, file, version)
        return Call(call.method, call.path, _only_answer, call.content, call.headers)
    path = f"{_model('/v1', model, version)}:predict"
    return Call("POST", path, _only_answer, read_file(file), {"Content-Type": media_type})


def _only_answer(reply: Reply) -> Answer:
    answers = read.read_predictions(reply)
    if len(answers) != 1:
        raise BadAnswer(f"{len(answers)} answers for one file; predict returns them all")
    return answers[0]


def models() -> Call[list[str]]:
    """List the models' names."""
    return Call("GET", "/v1/models", read.read_models)


def server() -> Call[ServerMetadata]:
    """Ask a server what it is."""
    return Call("GET", "/v2", read.read_server)


def metadata(model: str, version: int | str | None) -> Call[ModelMetadata]:
    """Ask for a model's inputs and outputs."""
    return Call("GET", _model("/v2", model, version), read.read_metadata)


def info(model: str, version: int | None) -> Call[JsonObject]:
    """Ask for everything that is known of a model."""
    return Call("GET", f"{_model('/v1', model, version)}/info", read.read_object)


def live() -> Call[str]:
    """Ask whether the process answers; the value is why not, "" for a yes."""
    return _health("/v2/health/live")


def ready(model: str | None, version: int | str | None) -> Call[str]:
    """Ask whether the server, or one model, should be sent traffic; the value is why not."""
    if model is None:
        return _health("/v2/health/ready")
    return _health(f"{_model('/v2', model, version)}/ready")


def _health(path: str) -> Call[str]:
    return Call("GET", path, read.read_health, statuses=_HEALTH, retried=False)


def index(*, ready: bool) -> Call[list[IndexEntry]]:
    """List the repository, or only what is ready."""
    body = orjson.dumps({"ready": True}) if ready else b"{}"
    return Call("POST", "/v2/repository/index", read.read_index, body, _JSON)


def load(model: str) -> Call[None]:
    """Load a model, or load it anew."""
    return _control(model, "load")


def unload(model: str) -> Call[None]:
    """Take a model out of service."""
    return _control(model, "unload")


def _control(model: str, verb: str) -> Call[None]:
    path = f"{_model('/v2/repository', model)}/{verb}"
    return Call("POST", path, read.read_nothing, b"{}", _JSON, idempotent=False)


def statistics(model: str | None, version: int | str | None) -> Call[list[JsonObject]]:
    """Ask for the counters of one model or of all."""
    path = "/v2/models/stats" if model is None else f"{_model('/v2', model, version)}/stats"
    return Call("GET", path, read.read_statistics)


def timeout_header(remaining: float) -> dict[str, str]:
    """Return the header that tells a server how long the caller will wait."""
    if math.isinf(remaining):
        return {}
    return {"X-Request-Timeout-Ms": str(max(1, math.ceil(remaining * 1000)))}
