"""The binary extension read and written element by element, apart from the client's own codec."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "BF16": "H",
    "FP32": "f",
    "FP64": "d",
}


def read_request(body: bytes, length: str | None) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return a request's JSON and each input's elements in row-major order."""
    end = len(body) if length is None else int(length)
    head = json.loads(body[:end])
    values: dict[str, list[Any]] = {}
    for tensor in head["inputs"]:
        if "data" in tensor:
            values[tensor["name"]] = tensor["data"]
            continue
        size = tensor["parameters"]["binary_data_size"]
        values[tensor["name"]] = list(_elements(body[end : end + size], tensor["datatype"]))
        end += size
    assert end == len(body)
    for tensor in head["inputs"]:
        assert len(values[tensor["name"]]) == math.prod(tensor["shape"])
    return head, values


def _elements(blob: bytes, datatype: str) -> Iterator[Any]:
    if datatype != "BYTES":
        yield from (one for (one,) in struct.iter_unpack("<" + FORMATS[datatype], blob))
        return
    while blob:
        (size,) = struct.unpack("<I", blob[:4])
        yield blob[4 : 4 + size]
        blob = blob[4 + size :]


def blob_of(elements: Sequence[Any], datatype: str) -> bytes:
    """Return the bytes of a tensor's elements."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(one)) + one for one in elements)
    return b"".join(struct.pack("<" + FORMATS[datatype], one) for one in elements)


def answer(
    *tensors: tuple[str, str, list[int], Sequence[Any]], **members: object
) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of a binary infer answer with these outputs."""
    blobs = [blob_of(elements, datatype) for _, datatype, _, elements in tensors]
    outputs = [
        {
            "name": name,
            "datatype": datatype,
            "shape": shape,
            "parameters": {"binary_data_size": len(blob)},
        }
        for (name, datatype, shape, _), blob in zip(tensors, blobs, strict=True)
    ]
    head = {"model_name": "m", "model_version": "1", "outputs": outputs, **members}
    text = json.dumps(head).encode()
    headers = {"inference-header-content-length": str(len(text))}
    return text + b"".join(blobs), headers
