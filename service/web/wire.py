"""The Open Inference Protocol's infer call: a request out of JSON and the bytes behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from service.arrays import array_from_json, kind_of, load_json
from service.errors import InvalidRequest, NotBuilt, ServiceError
from service.tensors import DATATYPES, Datatype, Tensor
from service.web import fields
from service.web.binary import Blobs
from service.web.skim import NUMERIC, Skimmer

MAX_RANK = 32
# Types that JSON's numbers could carry, but no other server of the protocol reads or writes so.
BINARY_ONLY = frozenset({"FP16", "BF16"})
_MAX_AXIS = 2**31 - 1
# A JSON without data is short; longer ones would make the kept ones large.
_LONGEST_KEPT_HEAD = 1024


@dataclass(frozen=True, slots=True)
class Form:
    """How an output is wanted: in binary or as JSON, whole or as its best ``classes``."""

    binary: bool = False
    classes: int = 0


@dataclass(frozen=True, slots=True)
class InferCall:
    """A decoded request: its id, its tensors, the outputs it wants and its timeout in seconds.

    Without ``outputs`` all are wanted, in the form ``default``.
    """

    id: str | None
    inputs: dict[str, Tensor]
    outputs: Mapping[str, Form] = field(default_factory=dict)
    default: Form = Form()
    timeout: float | None = None

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """The names of the wanted outputs, None for all."""
        return tuple(self.outputs) or None

    def form(self, name: str) -> Form:
        """Return the form in which an output is wanted."""
        return self.outputs.get(name, self.default)


def decode(
    body: bytes,
    *,
    json_bytes: int | None = None,
    max_depth: int = 32,
    skimmer: Skimmer | None = None,
) -> InferCall:
    """Decode an infer request whose first ``json_bytes`` are JSON, all of them where it is None.

    A skimmer makes large numeric tensors quicker and changes nothing else.  Raises InvalidRequest
    that names the field and the value seen, or NotBuilt for a part of the protocol that this
    server lacks.  Members that the protocol does not know are ignored.
    """
    if json_bytes is None and skimmer is not None:
        call = _decode_flat(body, max_depth, skimmer)
        if call is not None:
            return call
    if json_bytes is not None and json_bytes <= _LONGEST_KEPT_HEAD:
        head = _kept_head(body[:json_bytes], max_depth)
    else:
        text = body if json_bytes is None else body[:json_bytes]
        request = skimmer.skim(text, max_depth=max_depth) if skimmer is not None else None
        head = _head(load_object(text, max_depth=max_depth) if request is None else request)
    blobs = Blobs(body, json_bytes)
    inputs = {planned.name: planned.tensor(blobs) for planned in head.inputs}
    blobs.end()
    return InferCall(head.id, inputs, head.outputs, head.default, head.timeout)


def _decode_flat(body: bytes, max_depth: int, skimmer: Skimmer) -> InferCall | None:
    """Decode the most common request of all, one flat tensor of numbers; None for any other.

    What surrounds the numbers is short and mostly the same, so that it is read only once.
    """
    parts = skimmer.split(body)
    if parts is None or len(parts[0]) > _LONGEST_KEPT_HEAD:
        return None
    try:
        head = _kept_head(parts[0], max_depth)
    except ServiceError:
        # The other road finds it again and tells where in the body.
        return None
    if len(head.inputs) != 1 or head.inputs[0].data != []:
        return None
    planned = head.inputs[0]
    dtype = NUMERIC.get(planned.datatype.wire)
    values = None if dtype is None else skimmer.numbers(parts[1], dtype)
    if values is None:
        return None
    tensor = _from_json(values, planned.datatype, planned.shape, planned.where)
    return InferCall(head.id, {planned.name: tensor}, head.outputs, head.default, head.timeout)


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of a request, checked as far as its JSON goes; its bytes may stand behind that."""

    name: str
    where: str
    datatype: Datatype
    shape: list[int]
    size: object
    data: object

    def tensor(self, blobs: Blobs) -> Tensor:
        """Return its elements, from the JSON or from the bytes behind."""
        if self.size is None:
            return _from_json(self.data, self.datatype, self.shape, self.where)
        return blobs.take(self.size, self.datatype, self.shape, self.where)


@dataclass(frozen=True, slots=True)
class _Head:
    """The JSON of a request, read but for the elements of its tensors."""

    id: str | None
    inputs: tuple[_Input, ...]
    outputs: Mapping[str, Form]
    default: Form
    timeout: float | None


@lru_cache(maxsize=256)
def _kept_head(text: bytes, max_depth: int) -> _Head:
    """Read a short JSON in front of bytes: a client sends the same one again and again."""
    return _head(load_object(text, max_depth=max_depth))


def _head(request: Mapping[str, Any]) -> _Head:
    parameters = fields.parameters(request, "parameters")
    fields.unsigned(parameters, "priority", "parameters")
    binary = fields.flag(parameters, "binary_data_output", "parameters")
    return _Head(
        id=_id(request),
        inputs=_inputs(request),
        outputs=_outputs(request),
        default=Form(binary),
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


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    """Return the timeout in seconds; the protocol counts microseconds, and 0 means none."""
    microseconds = fields.unsigned(parameters, "timeout", "parameters")
    return microseconds / 1e6 if microseconds else None


def _inputs(request: Mapping[str, Any]) -> tuple[_Input, ...]:
    inputs: dict[str, _Input] = {}
    for index, tensor in enumerate(fields.objects(request, "inputs", needed=True)):
        name = fields.text(tensor, "name", f"inputs[{index}]")
        if name in inputs:
            raise InvalidRequest(f"inputs[{index}].name: '{name}' is given twice")
        inputs[name] = _input(tensor, name)
    return tuple(inputs.values())


def _input(tensor: Mapping[str, Any], name: str) -> _Input:
    where = f"input '{name}'"
    parameters = fields.parameters(tensor, f"{where}.parameters")
    _refuse_shared_memory(parameters, f"{where}.parameters")
    datatype = _datatype(tensor, where)
    shape = _shape(tensor, where)
    size, data = parameters.get("binary_data_size"), tensor.get("data")
    if size is not None and data is not None:
        raise InvalidRequest(f"{where}: data is given, and parameters.binary_data_size as well")
    return _Input(name, where, datatype, shape, size, data)


def _from_json(data: object, datatype: Datatype, shape: list[int], where: str) -> Tensor:
    if data is None:
        raise InvalidRequest(f"{where}.data: missing, and parameters.binary_data_size as well")
    if datatype.wire in BINARY_ONLY:
        raise InvalidRequest(
            f"{where}.datatype: {datatype.wire} has no form in JSON; send it as binary data"
        )
    if isinstance(data, np.ndarray):
        values: Tensor = data
    elif isinstance(data, list):
        values = array_from_json(data, datatype.numpy, f"{where}.data")
    else:
        raise InvalidRequest(f"{where}.data: expected an array, got {kind_of(data)}")
    wanted = math.prod(shape)
    if values.size != wanted:
        raise InvalidRequest(
            f"{where}: shape {shape} asks for {wanted} elements, data has {values.size}"
        )
    return values.reshape(shape)


def _refuse_shared_memory(parameters: Mapping[str, Any], where: str) -> None:
    if parameters.get("shared_memory_region") is not None:
        raise NotBuilt(f"{where}.shared_memory_region: shared memory is not built")


def _datatype(tensor: Mapping[str, Any], where: str) -> Datatype:
    name = fields.text(tensor, "datatype", where)
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
            seen = fields.seen(size)
            raise InvalidRequest(f"{where}.shape[{axis}]: expected a whole number, got {seen}")
    # numpy multiplies the other axes even where one is 0, and must not overflow.
    if math.prod(filter(None, shape)) > _MAX_AXIS:
        raise InvalidRequest(f"{where}.shape: {shape} is beyond what a request can hold")
    return shape


def _outputs(request: Mapping[str, Any]) -> dict[str, Form]:
    """Return the wanted outputs; one that is listed is JSON unless it says otherwise itself."""
    outputs: dict[str, Form] = {}
    for index, output in enumerate(fields.objects(request, "outputs", needed=False)):
        name = fields.text(output, "name", f"outputs[{index}]")
        where = f"output '{name}'.parameters"
        parameters = fields.parameters(output, where)
        _refuse_shared_memory(parameters, where)
        outputs[name] = Form(
            fields.flag(parameters, "binary_data", where),
            fields.unsigned(parameters, "classification", where) or 0,
        )
    return outputs
