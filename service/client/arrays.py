"""Arrays to wire tensors and back, in JSON and in the binary extension of the protocol."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.client.errors import BadAnswer, InvalidInput
from service.client.values import BFloat16
from service.tensors import DATATYPES, Tensor, from_numpy

_LENGTH = struct.Struct("<I")
_TEXT_KINDS = "OSUT"
_NO_JSON = ("FP16", "BF16")


@dataclass(frozen=True, slots=True)
class WireTensor:
    """One tensor as its JSON member, and the bytes that follow it where it travels as binary."""

    member: dict[str, object]
    blob: bytes | memoryview = b""


def encode_tensor(name: str, value: Tensor | BFloat16, *, binary: bool) -> WireTensor:
    """Return the tensor for one input; raises InvalidInput that names the input and what it is."""
    where = f"input '{name}'"
    array = value.bits if isinstance(value, BFloat16) else value
    if not isinstance(array, np.ndarray):
        raise InvalidInput(
            f"{where}: expected a numpy array, got {type(array).__name__}; "
            "numpy.asarray(value, dtype) makes one"
        )
    datatype = "BF16" if isinstance(value, BFloat16) else _datatype(array, where)
    member: dict[str, object] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
    if binary:
        blob = _blob(array, datatype, where)
        return WireTensor({**member, "parameters": {"binary_data_size": len(blob)}}, blob)
    if datatype in _NO_JSON:
        raise InvalidInput(f"{where}: {datatype} has no form in JSON, send it with binary=True")
    return WireTensor({**member, "data": _json_data(array, datatype, where)})


def _datatype(array: Tensor, where: str) -> str:
    if array.dtype.kind in _TEXT_KINDS:
        return "BYTES"
    # ml_dtypes registers the type under this name; nothing of it is needed to send its bits.
    if array.dtype.name == "bfloat16":
        return "BF16"
    datatype = from_numpy(array.dtype.newbyteorder("="))
    if datatype is None:
        raise InvalidInput(f"{where}: {array.dtype} has no datatype on the wire")
    return datatype.wire


def _blob(array: Tensor, datatype: str, where: str) -> bytes | memoryview:
    if datatype == "BYTES":
        elements = list(_elements(array, where))
        return b"".join(part for e in elements for part in (_LENGTH.pack(len(e)), e))
    little = array.dtype if datatype == "BF16" else array.dtype.newbyteorder("<")
    flat = np.ascontiguousarray(array, little).reshape(-1)
    # The bytes of a large array are copied once, into the body.
    return flat.view(np.uint8).data


def _elements(array: Tensor, where: str) -> Iterator[bytes]:
    for index, element in enumerate(array.reshape(-1).tolist()):
        if isinstance(element, str):
            yield element.encode()
        elif isinstance(element, bytes):
            yield element
        else:
            raise InvalidInput(
                f"{where}: element {index} is {type(element).__name__}, "
                "only str and bytes have a form in BYTES"
            )


def _json_data(array: Tensor, datatype: str, where: str) -> object:
    if datatype != "BYTES":
        # A contiguous native array in row-major order is what orjson writes without a copy.
        return np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1)
    try:
        return [element.decode() for element in _elements(array, where)]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{where}: {error}; send it with binary=True") from error


def dump_json(value: object, *, finite: bool) -> bytes:
    """Return JSON for a value that may hold arrays; ``finite`` says that no number is NaN or inf.

    JSON has no words for those.  orjson writes null, which is NaN for this protocol and would make
    NaN of an infinity, so such rare bodies are written with the tokens that servers take.
    """
    if finite:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(value, default=lambda array: array.tolist()).encode()


def is_finite(array: Tensor) -> bool:
    """Whether an array holds neither NaN nor an infinity."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def decode_outputs(
    members: Sequence[Mapping[str, Any]], blobs: memoryview
) -> dict[str, NDArray[Any]]:
    """Return the arrays of an answer by name; raises BadAnswer if the bytes do not fit."""
    outputs: dict[str, Tensor] = {}
    start = 0
    for member in members:
        name = str(member.get("name"))
        where = f"output '{name}'"
        shape = _shape(member, where)
        size = _binary_size(member, where)
        if size is None:
            outputs[name] = _from_json(member, shape, where)
            continue
        if type(size) is not int or not 0 <= size <= len(blobs) - start:
            raise BadAnswer(f"{where}: {size!r} bytes announced, {len(blobs) - start} are left")
        outputs[name] = _from_blob(member, shape, blobs[start : start + size], where)
        start += size
    if start != len(blobs):
        raise BadAnswer(f"{len(blobs) - start} bytes follow the last output")
    return outputs


def _binary_size(member: Mapping[str, Any], where: str) -> object:
    parameters = member.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadAnswer(f"{where}: parameters is no object")
    return parameters.get("binary_data_size")


def _shape(member: Mapping[str, Any], where: str) -> list[int]:
    shape = member.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise BadAnswer(f"{where}: shape is {shape!r}")
    return shape


def _from_blob(
    member: Mapping[str, Any], shape: Sequence[int], blob: memoryview, where: str
) -> Tensor:
    datatype = member.get("datatype")
    if datatype == "BYTES":
        elements = _split(blob, where)
        _check_count(len(elements), shape, where)
        return np.array(elements, object).reshape(shape)
    dtype = np.dtype(np.uint16) if datatype == "BF16" else _dtype(datatype, where)
    _check_count(len(blob) / dtype.itemsize, shape, where)
    # A copy: aligned, in native order, and the caller's own to write to.
    array = np.frombuffer(blob, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    return BFloat16(array).to_float32() if datatype == "BF16" else array


def _split(blob: memoryview, where: str) -> list[bytes]:
    elements = []
    start = 0
    while start < len(blob):
        if len(blob) - start < _LENGTH.size:
            raise BadAnswer(f"{where}: ends within the length of an element")
        (length,) = _LENGTH.unpack_from(blob, start)
        start += _LENGTH.size
        if length > len(blob) - start:
            raise BadAnswer(f"{where}: an element of {length} bytes, {len(blob) - start} are left")
        elements.append(bytes(blob[start : start + length]))
        start += length
    return elements


def _from_json(member: Mapping[str, Any], shape: Sequence[int], where: str) -> Tensor:
    datatype = member.get("datatype")
    dtype = np.dtype(np.float32) if datatype == "BF16" else _dtype(datatype, where)
    data = _flat(member.get("data", []))
    _check_count(len(data), shape, where)
    wanted = _JSON_TYPES.get(dtype.kind, (int,))
    if not set(map(type, data)) <= set(wanted):
        raise BadAnswer(f"{where}: data holds what is no {datatype}")
    if datatype == "BYTES":
        return np.array([element.encode() for element in data], object).reshape(shape)
    try:
        with np.errstate(over="ignore"):
            return np.array(data, dtype).reshape(shape)
    except OverflowError as error:
        raise BadAnswer(f"{where}: {error}") from error


_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "b": (bool,),
    "O": (str,),
    # null stands for NaN and infinities, which JSON cannot say.
    "f": (int, float, type(None)),
}


def _flat(data: object) -> list[Any]:
    level = data if isinstance(data, list) else [data]
    while any(isinstance(element, list) for element in level):
        level = [e for inner in level for e in (inner if isinstance(inner, list) else [inner])]
    return level


def _dtype(datatype: object, where: str) -> np.dtype[Any]:
    found = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if found is None:
        raise BadAnswer(f"{where}: unknown datatype {datatype!r}")
    return found.numpy


def _check_count(count: float, shape: Sequence[int], where: str) -> None:
    if count != math.prod(shape):
        raise BadAnswer(f"{where}: {count:g} elements for shape {list(shape)}")
