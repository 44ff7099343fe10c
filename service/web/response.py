"""An infer answer as bytes: JSON, and behind it the outputs that are wanted in binary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import orjson

from service.errors import InvalidRequest
from service.inference import Prediction
from service.tensors import Tensor, from_numpy
from service.web import binary
from service.web.classification import classes
from service.web.wire import BINARY_ONLY, Form, InferCall

Blob = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Encoded:
    """A body, and how much of it is JSON; None where all of it is."""

    body: bytes
    json_bytes: int | None = None


def head_of(answer: Encoded, coding: str = "") -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer, ``coding`` being what its body was packed with."""
    head = [(b"vary", b"Accept-Encoding")]
    if answer.json_bytes is None:
        head.append((b"content-type", b"application/json"))
    else:
        # It counts bytes before packing, as it does in requests.
        head.append((b"content-type", b"application/octet-stream"))
        head.append((binary.HEADER, b"%d" % answer.json_bytes))
    if coding:
        head.append((b"content-encoding", coding.encode()))
    return head


def encode(call: InferCall, prediction: Prediction) -> Encoded:
    """Return the answer, each output in the form in which the call wants it.

    JSON data is flat in row-major order, null for NaN and infinities.  Raises InvalidRequest for
    an output that does not have the wanted form.
    """
    answer: dict[str, object] = {
        "model_name": prediction.model,
        "model_version": str(prediction.version),
    }
    if call.id:
        answer["id"] = call.id
    if prediction.left_out:
        names = ", ".join(prediction.left_out)
        answer["parameters"] = {"left_out": f"{names}: no tensors, answered by :predict (V1)"}
    blobs: list[Blob] = []
    outputs = []
    for name, value in prediction.outputs.items():
        form = call.form(name)
        shown = _classified(name, value, form, prediction) if form.classes else value
        outputs.append(_output(name, shown, form, blobs))
    answer["outputs"] = outputs
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    # Without a byte behind the JSON there is nothing that a header could tell.
    if not any(map(len, blobs)):
        return Encoded(head)
    return Encoded(b"".join((head, *blobs)), len(head))


def _classified(name: str, value: Tensor, form: Form, prediction: Prediction) -> Tensor:
    return classes(value, form.classes, prediction.labels.get(name), f"output '{name}'")


def _output(name: str, value: Tensor, form: Form, blobs: list[Blob]) -> dict[str, object]:
    datatype = from_numpy(value.dtype)
    if datatype is None:
        raise InvalidRequest(f"output '{name}': {value.dtype} has no form on the wire")
    head: dict[str, object] = {
        "name": name,
        "datatype": datatype.wire,
        "shape": list(value.shape),
    }
    if form.binary:
        blob = binary.encode(value)
        blobs.append(blob)
        return {**head, "parameters": {"binary_data_size": len(blob)}}
    if datatype.wire in BINARY_ONLY:
        raise InvalidRequest(
            f"output '{name}': {datatype.wire} has no form in JSON; ask for it with "
            '"parameters": {"binary_data": true}'
        )
    return {**head, "data": _flat(name, value)}


def _flat(name: str, value: Tensor) -> object:
    # A view of a contiguous array; orjson writes neither strided nor rank-0 arrays.
    flat = np.ascontiguousarray(value).reshape(-1)
    if not flat.dtype.hasobject:
        return flat
    try:
        return [e if isinstance(e, str) else bytes(e).decode() for e in flat.tolist()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"output '{name}': an element is not UTF-8: {error}") from error
