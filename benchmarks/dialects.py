"""How each kind of server wants to be asked, and how its answer is read."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson

from benchmarks.models import Batch
from service.tensors import DATATYPES, from_numpy

Encoding = Literal["json", "binary"]
ENCODINGS: tuple[Encoding, ...] = ("json", "binary")
JSON = "application/json"
BYTES = "application/octet-stream"
_HEADER_LENGTH = "Inference-Header-Content-Length"
FRAME = b"TNSR"


@dataclass(frozen=True, slots=True)
class Request:
    """A POST request, without the address it goes to."""

    path: str
    body: bytes
    headers: Mapping[str, str]

    def wire(self, port: int) -> bytes:
        """Return the bytes that travel to 127.0.0.1."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode() + self.body


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol in one encoding: ``ask`` builds a request, ``read`` takes an answer apart.

    ``ask`` gets the model's name, its inputs, and the outputs to ask for (none: all).
    ``read`` gets the answer's headers in lower case and its body, and returns outputs by name;
    it raises KeyError, ValueError or TypeError for what is no answer.
    """

    ask: Callable[[str, Batch, Sequence[str]], Request]
    read: Callable[[Mapping[str, str], bytes], Batch]


def v2_json(model: str, batch: Batch, outputs: Sequence[str] = ()) -> Request:
    """Ask in the Open Inference Protocol with numbers as text."""
    inputs = [
        {"name": name, "shape": value.shape, "datatype": _datatype(value), "data": value.ravel()}
        for name, value in batch.items()
    ]
    call: dict[str, Any] = {"inputs": inputs}
    if outputs:
        call["outputs"] = [{"name": name} for name in outputs]
    return Request(_v2_path(model), _dumps(call), {"Content-Type": JSON})


def v2_binary(model: str, batch: Batch, outputs: Sequence[str] = ()) -> Request:
    """Ask in the Open Inference Protocol with the binary extension, both ways."""
    inputs = [
        {
            "name": name,
            "shape": value.shape,
            "datatype": _datatype(value),
            "parameters": {"binary_data_size": value.nbytes},
        }
        for name, value in batch.items()
    ]
    call: dict[str, Any] = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    if outputs:
        call["outputs"] = [{"name": n, "parameters": {"binary_data": True}} for n in outputs]
    head = _dumps(call)
    body = head + b"".join(value.tobytes() for value in batch.values())
    return Request(_v2_path(model), body, {"Content-Type": BYTES, _HEADER_LENGTH: str(len(head))})


def read_v2(headers: Mapping[str, str], body: bytes) -> Batch:
    """Read an answer of the Open Inference Protocol in either encoding."""
    end = int(headers.get(_HEADER_LENGTH.lower(), len(body)))
    outputs, at = {}, end
    for output in orjson.loads(body[:end])["outputs"]:
        dtype = DATATYPES[output["datatype"]].numpy
        size = (output.get("parameters") or {}).get("binary_data_size")
        if size is None:
            value = np.asarray(output["data"], dtype)
        else:
            value = np.frombuffer(body[at : at + size], dtype)
            at += size
        outputs[output["name"]] = value.reshape(output["shape"])
    return outputs


def named_json(model: str, batch: Batch, _outputs: Sequence[str] = ()) -> Request:
    """Ask with ``{"inputs": {name: nested lists}}``, as a server written by hand would have it."""
    return Request(f"/{model}", _dumps({"inputs": batch}), {"Content-Type": JSON})


def read_named(_headers: Mapping[str, str], body: bytes) -> Batch:
    """Read ``{"outputs": {name: nested lists}}``."""
    outputs = orjson.loads(body)["outputs"]
    return {name: np.asarray(value, np.float32) for name, value in outputs.items()}


def framed(model: str, batch: Batch, _outputs: Sequence[str] = ()) -> Request:
    """Ask with a frame of bytes, for servers that leave the format of a body to their users.

    The frame: four letters, the size of a JSON object as uint32, that object with name, numpy type
    and shape of each tensor, then the tensors.
    """
    tensors = [(name, value.dtype.str, value.shape) for name, value in batch.items()]
    head = _dumps(tensors)
    blobs = b"".join(value.tobytes() for value in batch.values())
    body = FRAME + struct.pack("<I", len(head)) + head + blobs
    return Request(f"/{model}", body, {"Content-Type": BYTES})


def read_framed(_headers: Mapping[str, str], body: bytes) -> Batch:
    """Read such a frame; raise ValueError if it is none."""
    if body[:4] != FRAME:
        raise ValueError(f"an answer that begins with {body[:16]!r} is no frame")
    (size,) = struct.unpack_from("<I", body, 4)
    outputs, at = {}, 8 + size
    for name, kind, shape in orjson.loads(body[8:at]):
        dtype = np.dtype(kind)
        value = np.frombuffer(body, dtype, int(np.prod(shape)), at).reshape(shape)
        outputs[name] = value
        at += value.nbytes
    return outputs


def _v2_path(model: str) -> str:
    return f"/v2/models/{model}/infer"


def _datatype(value: np.ndarray) -> str:
    found = from_numpy(value.dtype)
    if found is None:
        raise ValueError(f"no wire type for {value.dtype}")
    return found.wire


def _dumps(value: Any) -> bytes:  # noqa: ANN401
    """Write JSON that may hold arrays."""
    contiguous = orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(value, option=contiguous)


V2: Mapping[Encoding, Dialect] = {
    "json": Dialect(v2_json, read_v2),
    "binary": Dialect(v2_binary, read_v2),
}
V2_JSON: Mapping[Encoding, Dialect] = {"json": V2["json"]}
NAMED: Mapping[Encoding, Dialect] = {"json": Dialect(named_json, read_named)}
FRAMED: Mapping[Encoding, Dialect] = {**NAMED, "binary": Dialect(framed, read_framed)}
