"""What the infer road means, as an OpenAPI operation with its schemas."""

from __future__ import annotations

from typing import Any

from service.web.openapi import errors, json_content, schema

INFER_SCHEMAS: dict[str, Any] = {
    "Tensor": {
        "type": "object",
        "description": "`data`, or `parameters.binary_data_size` bytes behind the JSON.",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": {
                "type": "string",
                "description": "BOOL, UINT8-64, INT8-64, FP16, BF16 (both in binary only), "
                "FP32, FP64 or BYTES.",
            },
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "data": {
                "type": "array",
                "description": "Flat or nested, in row-major order.",
                "items": {},
            },
            "parameters": {
                "type": ["object", "null"],
                "properties": {"binary_data_size": {"type": ["integer", "null"], "minimum": 0}},
            },
        },
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "description": "Echoed in the answer."},
            "parameters": {
                "type": ["object", "null"],
                "description": "`timeout` in microseconds; `binary_data_output` asks for all "
                "outputs in binary where `outputs` is left out; unknown ones are ignored.",
                "properties": {
                    "timeout": {"type": ["integer", "null"], "minimum": 0},
                    "priority": {"type": ["integer", "null"], "minimum": 0},
                    "binary_data_output": {"type": ["boolean", "null"]},
                },
            },
            "inputs": {"type": "array", "items": schema("Tensor")},
            "outputs": {
                "type": ["array", "null"],
                "description": "The outputs that are wanted; all where it is left out.",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string"},
                        "parameters": {
                            "type": ["object", "null"],
                            "description": "`classification` k answers the k best classes as "
                            "texts `value:index[:label]`.",
                            "properties": {
                                "binary_data": {"type": ["boolean", "null"]},
                                "classification": {"type": ["integer", "null"], "minimum": 0},
                            },
                        },
                    },
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
            "parameters": {
                "type": "object",
                "description": "`left_out` names the outputs that are no tensors, where none "
                "was asked for by name.",
            },
            "outputs": {"type": "array", "items": schema("Tensor")},
        },
    },
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
_JSON_LENGTH = {
    "description": "How many bytes of the body are JSON, before any compression; the tensors' "
    "little-endian bytes follow in order. 0: the body is the model's only input, as one row.",
    "schema": {"type": "integer", "minimum": 0},
}
_JSON_LENGTH_NAME = "Inference-Header-Content-Length"
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

INFER: dict[str, Any] = {
    "summary": "Run a model on its own tensors (Open Inference Protocol, V2)",
    "description": "The tensors are those of the graph, after all pre-processing. The header "
    "`X-Request-Timeout-Ms` and the parameter `timeout` bound the call, the smaller wins. Bodies "
    "may be compressed by gzip or deflate; an answer is where `Accept-Encoding` allows it.",
    "parameters": [{"name": _JSON_LENGTH_NAME, "in": "header", **_JSON_LENGTH}],
    "requestBody": {
        "required": True,
        "content": {**json_content(schema("InferRequest"), one_row=_INFER_REQUEST), **_BYTES},
    },
    "responses": {
        "200": {
            "description": "Flat data; null stands for NaN and infinities.",
            "headers": {_JSON_LENGTH_NAME: _JSON_LENGTH},
            "content": {**json_content(schema("InferResponse"), one_row=_INFER_ANSWER), **_BYTES},
        },
        **errors("400", "404", "413", "415", "501", "503", "504"),
    },
}
