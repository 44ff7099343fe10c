"""What the roads of the repository, configuration and statistics extensions mean, as OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TIME = {"count": 12, "ns": 3456789}
_UNKNOWN = {"404": "No such model or version."}
_NOT_READY = {"503": "The model is loading or has failed; the text says why."}
_DISABLED = {"503": "model_control is not explicit, so models are not loaded by request."}


def _content(schema: Mapping[str, Any], example: object) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _answers(schema: str, example: object, errors: Mapping[str, str]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "200": {"description": "OK", "content": _content({"type": schema}, example)},
        **{status: {"description": text, "content": error} for status, text in errors.items()},
    }


def _body(properties: Mapping[str, Any], example: object) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"required": False, "content": _content(schema, example)}


CONFIG: dict[str, Any] = {
    "summary": "How a model is run, in Triton's words",
    "description": "What is in force, defaults included. Where rows of different requests are "
    "batched, `max_batch_size` is the most rows of one run and `dims` leave the batch axis out; "
    "larger requests are cut, not refused. Elsewhere it is 0 and `dims` are whole.",
    "responses": _answers(
        "object",
        {
            "name": "tiny",
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": 32,
            "input": [{"name": "values", "data_type": "TYPE_FP32", "dims": [4]}],
            "output": [{"name": "scores", "data_type": "TYPE_FP32", "dims": [2]}],
            "instance_group": [{"name": "tiny", "kind": "KIND_CPU", "count": 2}],
        },
        {**_UNKNOWN, **_NOT_READY},
    ),
}
STATISTICS: dict[str, Any] = {
    "summary": "What ready versions have done since they were first loaded",
    "description": "Counters that only grow, times in nanoseconds. `inference_count` counts rows, "
    "`execution_count` runs, `success.count` requests. A run is timed as a whole, so in "
    "`batch_stats` its time stands under `compute_infer`; sizes above 128 are counted under the "
    "next power of two.",
    "responses": _answers(
        "object",
        {
            "model_stats": [
                {
                    "name": "tiny",
                    "version": "1",
                    "last_inference": 1767225600000,
                    "inference_count": 34,
                    "execution_count": 7,
                    "inference_stats": {"success": _TIME, "fail": {"count": 0, "ns": 0}},
                    "response_stats": {},
                    "batch_stats": [{"batch_size": 4, "compute_infer": _TIME}],
                    "memory_usage": [],
                }
            ]
        },
        {**_UNKNOWN, **_NOT_READY},
    ),
}
INDEX: dict[str, Any] = {
    "summary": "All versions in memory and, by name, the other models on disk",
    "requestBody": _body(
        {"ready": {"type": ["boolean", "null"], "description": "Only what answers."}},
        {"ready": True},
    ),
    "responses": _answers(
        "array",
        [
            {"name": "tiny", "version": "1", "state": "READY"},
            {"name": "old", "version": "3", "state": "UNAVAILABLE", "reason": "unloaded"},
            {"name": "never_loaded"},
        ],
        {"400": "`ready` is not a boolean."},
    ),
}
LOAD: dict[str, Any] = {
    "summary": "Load a model, or load it again",
    "description": "The disk is looked at now. What answers goes on answering until the new "
    "engine has proved itself, and stays where that fails. Answers when the model is ready. The "
    "model may come along: `parameters` with `file:<version>/<path>` in base64 and `config`, "
    "Triton's configuration as a text of JSON, `{}` will do.",
    "requestBody": _body({"parameters": {"type": "object"}}, {}),
    "responses": _answers(
        "object",
        {"name": "tiny", "load": True},
        {
            "400": "The model was refused; the text begins with `failed to load`.",
            "404": "No such model on disk; the text begins with `failed to load`.",
            "501": "A configuration without files is not supported.",
            **_DISABLED,
        },
    ),
}
UNLOAD: dict[str, Any] = {
    "summary": "Take a model out of service",
    "description": "Answers at once, for an unknown name too; requests that run still end.",
    "requestBody": _body(
        {"parameters": {"type": "object"}}, {"parameters": {"unload_dependents": False}}
    ),
    "responses": _answers(
        "object",
        {"name": "tiny", "unload": True},
        {"400": "A parameter is unknown or wrong.", **_DISABLED},
    ),
}
