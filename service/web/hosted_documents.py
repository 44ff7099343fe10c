"""What the roads of hosting platforms and TensorFlow Serving's metadata mean, as OpenAPI."""

from __future__ import annotations

from typing import Any

from service.web.documents import PREDICT, READY
from service.web.infer_document import INFER

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


PING: dict[str, Any] = {
    **READY,
    "tags": ["hosted"],
    "summary": "Whether the server should be sent traffic (SageMaker, Vertex AI)",
}
STARTED = _answered(
    "Whether every model's first attempt to load has ended", {"started": True}, "503"
)
METADATA = _answered(
    "A model's inputs and outputs as a signature (TensorFlow Serving)", _METADATA, "404", "503"
)
EXPLAIN: dict[str, Any] = {
    "summary": "Explain answers (V1); not built",
    "requestBody": PREDICT["requestBody"],
    "responses": {status: INFER["responses"][status] for status in ("404", "501")},
}
INVOCATIONS: dict[str, Any] = {
    "tags": ["hosted"],
    "summary": "Answer without a model in the path (SageMaker, Vertex AI)",
    "description": "The only model answers, else the one in the header "
    "`X-Amzn-SageMaker-Target-Model` or that of `--default-model`. JSON is V1, or V2 where "
    "`inputs` is an array of tensors; CSV holds one instance of numbers a line.",
    "requestBody": {
        "required": True,
        "content": {
            **PREDICT["requestBody"]["content"],
            "text/plain": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}, "example": "0.1,0.2\n0.3,0.4\n"},
        },
    },
    "responses": {
        **PREDICT["responses"],
        "406": {**INFER["responses"]["415"], "description": "The caller takes no JSON."},
    },
}
