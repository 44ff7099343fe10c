"""From a reply to a value or an error; nothing here waits or sends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import orjson

from service.client.arrays import decode_outputs
from service.client.errors import (
    BadAnswer,
    ClientError,
    DeadlineExceeded,
    NotAllowed,
    NotFound,
    Refused,
    ServerFailed,
    Unavailable,
)
from service.client.retry import parse_retry_after
from service.client.values import (
    Answer,
    IndexEntry,
    InferResult,
    JsonObject,
    ModelMetadata,
    Plain,
    Prediction,
    ServerMetadata,
)
from service.tensors import TensorSpec

_JSON_LENGTH = "inference-header-content-length"
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer; header names are in lower case, the body is not compressed any more."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def error_of(reply: Reply) -> ClientError:
    """Return the error for a reply that is not a success, with the server's own text."""
    status, text = reply.status, _error_text(reply)
    request_id = reply.headers.get("x-request-id", "")
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        advised = parse_retry_after(reply.headers.get("retry-after"), datetime.now(UTC))
        return Unavailable(text, status=status, request_id=request_id, retry_after=advised)
    return _kind_of(status)(text, status=status, request_id=request_id)


def _kind_of(status: int) -> type[ClientError]:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return NotAllowed
    if status == HTTPStatus.NOT_FOUND:
        return NotFound
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return DeadlineExceeded
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerFailed
    # A redirect is no answer of a model server; following it could send the key elsewhere.
    return Refused if status >= HTTPStatus.BAD_REQUEST else BadAnswer


def _error_text(reply: Reply) -> str:
    try:
        text = orjson.loads(reply.body)["error"]
    except (ValueError, KeyError, TypeError):
        text = reply.body[:_SHOWN].decode(errors="replace").strip()
    return str(text) or f"the server answered {reply.status} without a reason"


def load_json(reply: Reply) -> Any:  # noqa: ANN401 - JSON; every reader checks what it takes
    """Return the value of a JSON body, also with the tokens NaN and Infinity; or BadAnswer."""
    return _parse(reply.body)


def _parse(body: bytes | memoryview) -> Any:  # noqa: ANN401 - as load_json
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return json.loads(bytes(body))
        except (ValueError, RecursionError) as error:
            raise BadAnswer(f"the answer is no JSON: {error}") from error


def read_nothing(reply: Reply) -> None:
    """Take a success without looking at its body."""
    del reply


def read_object(reply: Reply) -> JsonObject:
    """Return a JSON object as it is."""
    return _object(load_json(reply), "the answer")


def read_infer(reply: Reply) -> InferResult:
    """Return the arrays of an infer answer, JSON or binary."""
    body = memoryview(reply.body)
    length = reply.headers.get(_JSON_LENGTH)
    if length is None:
        end = len(body)
    elif length.isascii() and length.isdecimal() and int(length) <= len(body):
        end = int(length)
    else:
        raise BadAnswer(f"{_JSON_LENGTH} is {length!r} for a body of {len(body)} bytes")
    answer = _object(_parse(body[:end]), "the answer")
    outputs = decode_outputs(_objects(answer.get("outputs"), "outputs"), body[end:])
    name, version = answer.get("model_name"), answer.get("model_version")
    call_id = answer.get("id")
    return InferResult(
        model_name=str(name or ""),
        model_version=str(version or ""),
        id=None if call_id is None else str(call_id),
        outputs=outputs,
    )


def read_predictions(reply: Reply) -> list[Answer]:
    """Return one answer an instance: a `Prediction` from a classifier, else the plain value."""
    predictions = read_object(reply).get("predictions")
    if not isinstance(predictions, list):
        raise BadAnswer("predictions: expected an array")
    return [_answer(one) for one in predictions]


def read_classes(reply: Reply) -> list[Prediction]:
    """Return one prediction an instance; raises BadAnswer if the model is no classifier."""
    answers = read_predictions(reply)
    classes = [one for one in answers if isinstance(one, Prediction)]
    if len(classes) < len(answers):
        raise BadAnswer("the model answers without labels, it is no classifier; use predict")
    return classes


def _answer(value: Plain) -> Answer:
    if not isinstance(value, dict) or value.keys() != {"label", "score", "scores"}:
        return value
    label, score, scores = value["label"], value["score"], value["scores"]
    if not isinstance(label, str) or not isinstance(scores, dict):
        return value
    return Prediction(label, _number(score), {name: _number(s) for name, s in scores.items()})


def _number(value: Plain) -> float:
    # null is a score that JSON cannot say: NaN.
    return float(value) if isinstance(value, int | float) else float("nan")


def read_models(reply: Reply) -> list[str]:
    """Return the names of all models."""
    names = read_object(reply).get("models")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadAnswer("models: expected an array of names")
    return names


def read_health(reply: Reply) -> str:
    """Return why not, or "" for a yes; a body is not needed."""
    return "" if reply.status == HTTPStatus.OK else _error_text(reply)


def read_server(reply: Reply) -> ServerMetadata:
    """Return what a server says of itself."""
    answer = read_object(reply)
    return ServerMetadata(
        str(answer.get("name", "")),
        str(answer.get("version", "")),
        tuple(map(str, answer.get("extensions") or ())),
    )


def read_metadata(reply: Reply) -> ModelMetadata:
    """Return what a model takes and gives."""
    answer = read_object(reply)
    return ModelMetadata(
        name=str(answer.get("name", "")),
        versions=tuple(map(str, answer.get("versions") or ())),
        platform=str(answer.get("platform") or ""),
        inputs=_specs(answer, "inputs"),
        outputs=_specs(answer, "outputs"),
    )


def _specs(answer: Mapping[str, Any], key: str) -> tuple[TensorSpec, ...]:
    members = _objects(answer.get(key), key)
    return tuple(
        TensorSpec(str(m.get("name")), str(m.get("datatype")), tuple(m.get("shape") or ()))
        for m in members
    )


def read_index(reply: Reply) -> list[IndexEntry]:
    """Return the repository's index."""
    keys = ("name", "version", "state", "reason")
    return [
        IndexEntry(*(str(entry.get(key) or "") for key in keys))
        for entry in _objects(load_json(reply), "the index")
    ]


def read_statistics(reply: Reply) -> list[JsonObject]:
    """Return one object a version, as the protocol describes them."""
    return [dict(one) for one in _objects(read_object(reply).get("model_stats"), "model_stats")]


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadAnswer(f"{what}: expected an object, got {type(value).__name__}")
    return value


def _objects(value: object, what: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise BadAnswer(f"{what}: expected an array, got {type(value).__name__}")
    return [_object(one, what) for one in value]
