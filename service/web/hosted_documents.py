"""What TensorFlow Serving's metadata and explanations mean, as OpenAPI."""

from __future__ import annotations

from typing import Any

from service.web.documents import INFER, PREDICT

_SHAPE = {"dim": [{"size": "-1", "name": ""}, {"size": "4", "name": ""}], "unknown_rank": False}
_TENSOR = {"name": "values", "dtype": "DT_FLOAT", "tensor_shape": _SHAPE}
_SIGNATURE = {"inputs": {"values": _TENSOR}, "outputs": {"scores": {**_TENSOR, "name": "scores"}}}
_METADATA = {
    "model_spec": {"name": "tiny", "signature_name": "", "version": "1"},
    "metadata": {"signature_def": {"signature_def": {"serving_default": _SIGNATURE}}},
}


def _answered(summary: str, example: object, *errors: str) -> dict[str, Any]:
    content = {"schema": {"type": "object"}, "examples": {"answer": {"value": example}}}
    answer = {"description": "OK", "content": {"application/json": content}}
    known = {status: INFER["responses"][status] for status in errors}
    return {"summary": summary, "responses": {"200": answer, **known}}


METADATA = _answered(
    "A model's inputs and outputs as a signature (TensorFlow Serving)", _METADATA, "404", "503"
)
EXPLAIN: dict[str, Any] = {
    "summary": "Explain answers (V1); not built",
    "requestBody": PREDICT["requestBody"],
    "responses": {status: INFER["responses"][status] for status in ("404", "501")},
}
