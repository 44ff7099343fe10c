"""What the roads mean, by hand, as OpenAPI operations with examples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "name": {"description": "The model's name.", "schema": {"type": "string"}},
    "version": {
        "description": "A version; without it the highest that is ready answers.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
}
_ERRORS: Mapping[str, str] = {
    "400": "The request is wrong; the text names the field and the value seen.",
    "404": "No such model or version.",
    "413": "The body, a tensor or a picture is over its limit.",
    "415": "The body has an encoding that the server does not undo.",
    "501": "The protocol knows this feature, this server does not have it.",
    "503": "The model is loading, has failed, or its queue is full; Retry-After advises.",
    "504": "The deadline passed before the answer was there.",
}


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Mapping[str, Any], **examples: object) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": dict(schema)}
    if examples:
        content["examples"] = {key: {"value": value} for key, value in examples.items()}
    return {"application/json": content}


def _errors(*statuses: str) -> dict[str, Any]:
    return {
        status: {"description": _ERRORS[status], "content": _json(_schema("Error"))}
        for status in statuses
    }


def _get(summary: str, example: object, *errors: str) -> dict[str, Any]:
    answer = {"description": "OK", "content": _json({"type": "object"}, answer=example)}
    return {"summary": summary, "responses": {"200": answer, **_errors(*errors)}}


HEAD: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "onnxport",
        "description": "Verified ONNX models behind a REST interface.",
    },
}
COMPONENTS: dict[str, Any] = {
    "schemas": {
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string"}},
        },
        "Tensor": {
            "type": "object",
            "required": ["name", "datatype", "shape", "data"],
            "properties": {
                "name": {"type": "string"},
                "datatype": {
                    "type": "string",
                    "description": "BOOL, UINT8-64, INT8-64, FP32, FP64 or BYTES.",
                },
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "data": {
                    "type": "array",
                    "description": "Flat or nested, in row-major order.",
                    "items": {},
                },
            },
        },
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string", "description": "Echoed in the answer."},
                "parameters": {
                    "type": "object",
                    "description": "`timeout` in microseconds.",
                    "properties": {"timeout": {"type": "integer", "minimum": 0}},
                },
                "inputs": {"type": "array", "items": _schema("Tensor")},
                "outputs": {
                    "type": "array",
                    "description": "The outputs that are wanted; all where it is left out.",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}},
                    },
                },
            },
        },
        "InferResponse": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": _schema("Tensor")},
            },
        },
        "PredictRequest": {
            "type": "object",
            "required": ["instances"],
            "properties": {
                "instances": {
                    "type": "array",
                    "minItems": 1,
                    "description": "Pictures as numbers 0-255 or {'b64': PNG or JPEG}, series "
                    "as [[step 1], [step 2], ...] of any length, texts, or plain tensors' rows.",
                    "items": {},
                }
            },
        },
        "PredictResponse": {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": {"type": "array", "items": {}}},
        },
    }
}

_INFER_REQUEST = {
    "id": "42",
    "inputs": [
        {"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [0.1, 0.2, 0.3, 0.4]}
    ],
}
_INFER_ANSWER = {
    "model_name": "tiny",
    "model_version": "1",
    "id": "42",
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]}],
}
_SCORES = {"label": "ham", "score": 0.98, "scores": {"ham": 0.98, "spam": 0.02}}

INFER: dict[str, Any] = {
    "summary": "Run a model on its own tensors (Open Inference Protocol, V2)",
    "description": "The tensors are those of the graph, after all pre-processing. The header "
    "`X-Request-Timeout-Ms` and the parameter `timeout` bound the call, the smaller wins.",
    "requestBody": {
        "required": True,
        "content": _json(_schema("InferRequest"), one_row=_INFER_REQUEST),
    },
    "responses": {
        "200": {
            "description": "Flat data; null stands for NaN and infinities.",
            "content": _json(_schema("InferResponse"), one_row=_INFER_ANSWER),
        },
        **_errors("400", "404", "413", "415", "501", "503", "504"),
    },
}
PREDICT: dict[str, Any] = {
    "summary": "Answer raw inputs: pictures, series, texts, or plain rows (V1)",
    "description": "A body of type `image/png` or `image/jpeg` is one picture; everything else "
    "is JSON. One answer an instance, in order; instances may differ in length.",
    "requestBody": {
        "required": True,
        "content": {
            **_json(
                _schema("PredictRequest"),
                texts={"instances": ["See you at noon", "You have won!!!"]},
                picture={"instances": [{"b64": "iVBORw0KGgo..."}]},
                series={"instances": [[[0.1, 0.2], [0.3, 0.4]], [[0.5, 0.6]]]},
            ),
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    "responses": {
        "200": {
            "description": "A classifier answers label, score and all scores; other models the "
            "row itself, or an object keyed by output where there are several.",
            "content": _json(
                _schema("PredictResponse"),
                classifier={"predictions": [_SCORES]},
                one_output={"predictions": [[0.25, 0.75]]},
            ),
        },
        **_errors("400", "404", "413", "415", "503", "504"),
    },
}
LIVE = _get("Whether the process answers", {"live": True})
READY = _get("Whether the server should be sent traffic", {"ready": True}, "503")
MODEL_READY = _get("Whether a model answers", {"name": "tiny", "ready": True}, "404", "503")
METADATA = _get(
    "A model's inputs and outputs",
    {
        "name": "tiny",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "values", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 2]}],
    },
    "404",
    "503",
)
INDEX = _get("The models' names", {"models": ["tiny"]})
SERVER = _get(
    "The server's name and version",
    {"name": "onnxport", "version": "1.0.0", "extensions": ["statistics"]},
)
INFO = _get(
    "Everything known of a model: contract, evaluation, parity, provider, files, state",
    {"name": "tiny", "version": 1, "state": "READY", "reason": "", "labels": ["ham", "spam"]},
    "404",
)
STATUS = _get(
    "A model's state (V1)",
    {
        "name": "tiny",
        "ready": True,
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ],
    },
    "404",
    "503",
)
METRICS: dict[str, Any] = {
    "summary": "All instruments in Prometheus' text format",
    "responses": {
        "200": {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
}
ROOT = _get("Whether the server is alive (V1)", {"status": "alive"})


def operation(document: Mapping[str, Any], method: str, path: str) -> dict[str, Any]:
    """Return an operation for one path: its id, its tag and the parameters that the path has."""
    names = re.findall(r"{(\w+)}", path)
    words = [method.lower(), *re.findall(r"\w+", path)]
    return {
        "operationId": "_".join(words),
        "tags": [words[1] if words[1:] and words[1] in ("v1", "v2") else "server"],
        "parameters": [
            {"name": name, "in": "path", "required": True, **_PARAMETERS[name]} for name in names
        ],
        **document,
    }
