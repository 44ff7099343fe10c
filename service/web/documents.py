"""What the roads mean, by hand, as OpenAPI operations with examples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from service.web.infer_document import INFER_SCHEMAS
from service.web.openapi import errors as _errors
from service.web.openapi import json_content as _json
from service.web.openapi import schema as _schema

_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "name": {"description": "The model's name.", "schema": {"type": "string"}},
    "version": {
        "description": "A version; without it the highest that is ready answers.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "label": {
        "description": "A label that stands for a version.",
        "schema": {"type": "string"},
    },
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
        **INFER_SCHEMAS,
        "PredictRequest": {
            "type": "object",
            "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
            "properties": {
                "signature_name": {"type": "string", "enum": ["", "serving_default"]},
                "inputs": {
                    "description": "Columns: an object of tensors by input, or the only tensor. "
                    "An array is also KServe's other word for instances.",
                },
                "instances": {
                    "type": "array",
                    "minItems": 1,
                    "description": "Pictures as numbers 0-255 or {'b64': PNG or JPEG}, series "
                    "as [[step 1], [step 2], ...] of any length, texts, or plain tensors' rows.",
                    "items": {},
                },
            },
        },
        "PredictResponse": {
            "type": "object",
            "properties": {
                "predictions": {"type": "array", "items": {}},
                "outputs": {"description": "The same as columns, for a request with inputs."},
            },
        },
    }
}

_SCORES = {"label": "ham", "score": 0.98, "scores": {"ham": 0.98, "spam": 0.02}}

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
                columns={"inputs": {"a": [[1, 2], [3, 4]], "b": [[5, 6], [7, 8]]}},
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
                columns={
                    "outputs": {"sum": [[6, 8], [10, 12]], "difference": [[-4, -4], [-4, -4]]}
                },
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
    "The server's name, version and extensions",
    {"name": "onnxport", "version": "1.0.0", "extensions": ["binary_tensor_data"]},
)
INFO = _get(
    "Everything known of a model: contract, opsets, notes, evaluation, parity, provider, state",
    {
        "name": "tiny",
        "version": 1,
        "state": "READY",
        "reason": "",
        "code": "",
        "labels": ["ham", "spam"],
        "batching": {
            "rows_independent": True,
            "why": "3 random rows answer alone, together and in any order alike",
        },
    },
    "404",
)
VERIFICATION = _get(
    "How a version was proved before it took traffic, or why it was refused",
    {
        "name": "tiny",
        "version": 1,
        "state": "READY",
        "status": "passed",
        "vectors": 16,
        "batch_sizes": [1, 2, 32],
        "max_abs_difference": 2.4e-07,
        "provider": "cpu",
        "kind": "bundle",
    },
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
    in_path = [
        {"name": name, "in": "path", "required": True, **_PARAMETERS[name]} for name in names
    ]
    # A version may have more digits than any.
    too_long = _errors("400") if "version" in names else {}
    return {
        "operationId": "_".join(words),
        "tags": [words[1] if words[1:] and words[1] in ("v1", "v2") else "server"],
        **document,
        "responses": {**too_long, **document["responses"]},
        "parameters": [*in_path, *document.get("parameters", ())],
    }
