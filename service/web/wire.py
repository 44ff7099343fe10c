"""The Open Inference Protocol's infer call in JSON: decode a request, encode an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from service.arrays import array_from_json, kind_of, load_json
from service.errors import InvalidRequest, NotBuilt
from service.predictor import Prediction
from service.tensors import DATATYPES, Datatype, Tensor, from_numpy

MAX_RANK = 32
_MAX_AXIS = 2**31 - 1
_SCALARS = (str, int, float, bool)
_BINARY = "the binary tensor extension is not built; send and ask for JSON data"


@dataclass(frozen=True, slots=True)
class InferCall:
    """A decoded request: its id, its tensors, the outputs it wants and its timeout in seconds."""

    id: str | None
    inputs: dict[str, Tensor]
    wanted: tuple[str, ...] | None
    timeout: float | None


def decode(body: bytes, *, max_depth: int = 32) -> InferCall:
    """Decode a JSON infer request.

    Raises InvalidRequest that names the field and the value seen, or NotBuilt for a part of the
    protocol that this server lacks.  Members that the protocol does not know are ignored.
    """
    request = load_object(body, max_depth=max_depth)
    parameters = _parameters(request, "parameters")
    if parameters.get("binary_data_output") not in (None, False):
        raise NotBuilt(f"parameters.binary_data_output: {_BINARY}")
    _unsigned(parameters, "priority", "parameters")
    return InferCall(
        id=_id(request),
        inputs=_inputs(request),
        wanted=_wanted(request),
        timeout=_timeout(parameters),
    )


def load_object(body: bytes, *, max_depth: int) -> dict[str, Any]:
    """Parse a body that must be a JSON object; raises InvalidRequest if it is not."""
    if not body:
        raise InvalidRequest("body: empty, expected a JSON object")
    value = load_json(body)
    if not isinstance(value, dict):
        raise InvalidRequest(f"body: expected a JSON object, got {kind_of(value)}")
    # Flat bodies have too few brackets to be deep, which is much cheaper to see than to walk.
    if body.count(b"[") + body.count(b"{") > max_depth:
        _check_depth(value, max_depth)
    return value


def encode(call_id: str | None, prediction: Prediction) -> bytes:
    """Return the answer as JSON: flat data in row-major order, null for NaN and infinities."""
    answer: dict[str, object] = {
        "model_name": prediction.model,
        "model_version": str(prediction.version),
    }
    if call_id:
        answer["id"] = call_id
    if prediction.left_out:
        names = ", ".join(prediction.left_out)
        answer["parameters"] = {"left_out": f"{names}: no tensors, answered by :predict (V1)"}
    answer["outputs"] = [_output(name, value) for name, value in prediction.outputs.items()]
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _check_depth(value: object, limit: int) -> None:
    level = [value]
    for _ in range(limit):
        level = [inner for outer in level for inner in _containers(outer)]
        if not level:
            return
    raise InvalidRequest(f"body: nested deeper than {limit} levels")


def _containers(value: object) -> list[object]:
    members = list(value.values()) if isinstance(value, dict) else value
    # One pass in C over a long list of numbers, instead of a test a number.
    if not isinstance(members, list) or set(map(type, members)).isdisjoint((list, dict)):
        return []
    return [member for member in members if isinstance(member, (list, dict))]


def _id(request: Mapping[str, Any]) -> str | None:
    value = request.get("id")
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"id: expected a string, got {kind_of(value)}")
    return value or None


def _parameters(owner: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return the parameters of a request or a tensor; null stands for none."""
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"{where}: expected an object, got {kind_of(parameters)}")
    for key, value in parameters.items():
        if value is not None and not isinstance(value, _SCALARS):
            raise InvalidRequest(
                f"{where}.{key}: expected a string, a number or a boolean, got {kind_of(value)}"
            )
    return parameters


def _unsigned(parameters: Mapping[str, Any], key: str, where: str) -> int:
    value = parameters.get(key)
    if value is None:
        return 0
    if type(value) is not int or value < 0:
        seen = repr(value) if isinstance(value, str) else kind_of(value)
        raise InvalidRequest(f"{where}.{key}: expected a whole number >= 0, got {seen}")
    return value


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    """Return the timeout in seconds; the protocol counts microseconds, and 0 means none."""
    microseconds = _unsigned(parameters, "timeout", "parameters")
    return microseconds / 1e6 if microseconds else None


def _inputs(request: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = _objects(request, "inputs", needed=True)
    inputs: dict[str, Tensor] = {}
    for index, tensor in enumerate(tensors):
        name = _text(tensor, "name", f"inputs[{index}]")
        if name in inputs:
            raise InvalidRequest(f"inputs[{index}].name: '{name}' is given twice")
        inputs[name] = _tensor(tensor, f"input '{name}'")
    return inputs


def _objects(request: Mapping[str, Any], key: str, *, needed: bool) -> list[Mapping[str, Any]]:
    value = request.get(key)
    if value is None:
        if needed:
            raise InvalidRequest(f"{key}: missing, expected an array of tensors")
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"{key}: expected an array, got {kind_of(value)}")
    for index, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise InvalidRequest(f"{key}[{index}]: expected an object, got {kind_of(entry)}")
    return value


def _text(owner: Mapping[str, Any], key: str, where: str) -> str:
    value = owner.get(key)
    if value is None:
        raise InvalidRequest(f"{where}.{key}: missing")
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{key}: expected a string, got {kind_of(value)}")
    if not value:
        raise InvalidRequest(f"{where}.{key}: empty")
    return value


def _tensor(tensor: Mapping[str, Any], where: str) -> Tensor:
    _refuse_foreign_data(tensor, where)
    datatype = _datatype(tensor, where)
    shape = _shape(tensor, where)
    data = tensor.get("data")
    if data is None:
        raise InvalidRequest(f"{where}.data: missing")
    if not isinstance(data, list):
        raise InvalidRequest(f"{where}.data: expected an array, got {kind_of(data)}")
    values = array_from_json(data, datatype.numpy, f"{where}.data")
    wanted = math.prod(shape)
    if values.size != wanted:
        raise InvalidRequest(
            f"{where}: shape {shape} asks for {wanted} elements, data has {values.size}"
        )
    return values.reshape(shape)


def _refuse_foreign_data(tensor: Mapping[str, Any], where: str) -> None:
    parameters = _parameters(tensor, f"{where}.parameters")
    if parameters.get("binary_data_size") is not None:
        raise NotBuilt(f"{where}.parameters.binary_data_size: {_BINARY}")
    if parameters.get("shared_memory_region") is not None:
        raise NotBuilt(f"{where}.parameters.shared_memory_region: shared memory is not built")


def _datatype(tensor: Mapping[str, Any], where: str) -> Datatype:
    name = _text(tensor, "datatype", where)
    if name in ("FP16", "BF16"):
        raise InvalidRequest(
            f"{where}.datatype: {name} has no form in JSON; send it as binary data"
        )
    datatype = DATATYPES.get(name)
    if datatype is None:
        raise InvalidRequest(
            f"{where}.datatype: unknown datatype '{name}'; known are {', '.join(DATATYPES)}"
        )
    return datatype


def _shape(tensor: Mapping[str, Any], where: str) -> list[int]:
    shape = tensor.get("shape")
    if shape is None:
        raise InvalidRequest(f"{where}.shape: missing")
    if not isinstance(shape, list):
        raise InvalidRequest(f"{where}.shape: expected an array, got {kind_of(shape)}")
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"{where}.shape: {len(shape)} dimensions, at most {MAX_RANK}")
    for axis, size in enumerate(shape):
        # A boolean is an int in Python, and orjson makes floats of integers beyond 64 bits.
        if type(size) is not int or size < 0:
            seen = repr(size) if isinstance(size, str) else kind_of(size)
            raise InvalidRequest(f"{where}.shape[{axis}]: expected a whole number, got {seen}")
    # numpy multiplies the other axes even where one is 0, and must not overflow.
    if math.prod(size for size in shape if size) > _MAX_AXIS:
        raise InvalidRequest(f"{where}.shape: {shape} is beyond what a request can hold")
    return shape


def _wanted(request: Mapping[str, Any]) -> tuple[str, ...] | None:
    names: dict[str, None] = {}
    for index, output in enumerate(_objects(request, "outputs", needed=False)):
        name = _text(output, "name", f"outputs[{index}]")
        names[name] = None
        _refuse_foreign_form(output, f"output '{name}'.parameters")
    return tuple(names) or None


def _refuse_foreign_form(output: Mapping[str, Any], where: str) -> None:
    parameters = _parameters(output, where)
    if parameters.get("binary_data") not in (None, False):
        raise NotBuilt(f"{where}.binary_data: {_BINARY}")
    if _unsigned(parameters, "classification", where):
        raise NotBuilt(f"{where}.classification: the classification extension is not built")
    if parameters.get("shared_memory_region") is not None:
        raise NotBuilt(f"{where}.shared_memory_region: shared memory is not built")


def _output(name: str, value: Tensor) -> dict[str, object]:
    datatype = from_numpy(value.dtype)
    if datatype is None or datatype.wire == "FP16":
        raise InvalidRequest(f"output '{name}': {value.dtype} has no form in JSON")
    return {
        "name": name,
        "datatype": datatype.wire,
        "shape": list(value.shape),
        "data": _flat(name, value),
    }


def _flat(name: str, value: Tensor) -> object:
    # A view of a contiguous array; orjson writes neither strided nor rank-0 arrays.
    flat = np.ascontiguousarray(value).reshape(-1)
    if not flat.dtype.hasobject:
        return flat
    try:
        return [e if isinstance(e, str) else bytes(e).decode() for e in flat.tolist()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"output '{name}': an element is not UTF-8: {error}") from error
