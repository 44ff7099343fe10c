"""Requests and answers of the V2 infer road as bytes, made and read without the server's codec."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.tensors import DATATYPES, Tensor

LENGTH = "Inference-Header-Content-Length"


def datatype_of(value: Tensor) -> str:
    """Return the wire's name for an array's type."""
    return next(name for name, known in DATATYPES.items() if known.numpy == value.dtype)


def blob_of(value: Tensor) -> bytes:
    """Return an array's bytes as the protocol frames them."""
    if not value.dtype.hasobject:
        return value.tobytes()
    texts = [e if isinstance(e, bytes) else str(e).encode() for e in value.reshape(-1).tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def in_json(name: str, value: Tensor, *, nested: bool = False) -> dict[str, Any]:
    """Return a tensor of a request with its data in JSON, flat or as nested as its shape."""
    data = (value if nested and value.ndim else value.reshape(-1)).tolist()
    return {**_head(name, value), "data": data}


def in_binary(name: str, value: Tensor) -> dict[str, Any]:
    """Return a tensor of a request whose bytes stand behind the JSON."""
    return {**_head(name, value), "parameters": {"binary_data_size": len(blob_of(value))}}


def _head(name: str, value: Tensor) -> dict[str, Any]:
    return {"name": name, "datatype": datatype_of(value), "shape": list(value.shape)}


def body_of(request: Mapping[str, object], *blobs: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a request's body with its binary tensors, and the header that tells them apart."""
    head = json.dumps(request).encode()
    return head + b"".join(blobs), {LENGTH: str(len(head))}


def asked(*names: str, binary: bool = True) -> list[dict[str, Any]]:
    """Return these names as wanted outputs."""
    return [{"name": name, "parameters": {"binary_data": binary}} for name in names]


def read_answer(body: bytes, headers: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors of an answer, whichever form each has; BYTES in binary are bytes."""
    length = headers.get(LENGTH)
    at = len(body) if length is None else int(length)
    found = {}
    for output in json.loads(body[:at])["outputs"]:
        dtype = DATATYPES[output["datatype"]].numpy
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = _array(output["data"], dtype)
        else:
            blob, at = body[at : at + size], at + size
            values = _array(_texts(blob), dtype) if dtype.hasobject else np.frombuffer(blob, dtype)
        found[output["name"]] = values.reshape(output["shape"])
    assert at == len(body), "bytes behind the last tensor"
    return found


def _array(values: Sequence[object], dtype: np.dtype[Any]) -> Tensor:
    array = np.empty(len(values), dtype)
    array[:] = [np.nan if value is None else value for value in values]
    return array


def _texts(blob: bytes) -> list[bytes]:
    texts = []
    while blob:
        (size,) = struct.unpack_from("<I", blob)
        texts.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return texts
