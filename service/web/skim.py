"""A quicker way to read a JSON request: its numbers go straight into arrays, or it says no.

simdjson reads a tensor of floats about four times as fast as a parser that makes Python objects.
It is less strict than the other road, so whatever is not plain is left to that one: the result is
the same array, or None.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import simdjson

from service.tensors import DATATYPES, Tensor

# Below, making and asking proxies costs more than it saves.
_SMALLEST = 1024
# Beyond, the parser's own memory, up to 20 times the body, would count.
_LARGEST = 16 << 20
_MAX_TENSORS = 1024
_MAX_NESTING = 32
# The body, its inputs, one of them, and its data.
_OWN_DEPTH = 4
_FEW_BRACKETS = 64
_DATA = b'"data"'
_BACKSLASH = 0x5C

_Kind = Literal["d", "i", "u"]
_KINDS: Mapping[str, tuple[_Kind, type[np.generic]]] = {
    "f": ("d", np.float64),
    "i": ("i", np.int64),
    "u": ("u", np.uint64),
}
NUMERIC = {
    name: datatype.numpy
    for name, datatype in DATATYPES.items()
    if datatype.numpy.kind in _KINDS and name != "FP16"
}


class _Doubt(Exception):
    """Something is not plain; the other road knows what to do or say."""


class Skimmer:
    """One parser, for one thread; it keeps the memory that its largest body needed."""

    def __init__(self, *, smallest: int = _SMALLEST) -> None:
        """Make the parser; bodies of fewer bytes than ``smallest`` are not worth it."""
        self._smallest = smallest
        self._parser = simdjson.Parser()

    def split(self, body: bytes) -> tuple[bytes, bytes] | None:
        """Cut the only ``data`` out of a request: return the rest, with ``[]`` there, and it.

        Only for a flat array, which ends at the first "]".  The name is a key, and none inside of a
        text, if its quotes are not escaped: a plain quote would have ended the text.
        """
        if not self._smallest <= len(body) <= _LARGEST:
            return None
        key = body.find(_DATA)
        start = body.find(b"[", key)
        if key < 1 or body[key - 1] == _BACKSLASH or body[key + len(_DATA) : start].strip() != b":":
            return None
        end = body.find(b"]", start) + 1
        if end <= start + 2 or body.find(b"[", start + 1, end) >= 0:
            return None
        rest = b"%b[]%b" % (body[:start], body[end:])
        # Another one would leave open which of them the array was.
        return None if rest.count(_DATA) > 1 else (rest, body[start:end])

    def numbers(self, text: bytes, dtype: np.dtype[Any]) -> Tensor | None:
        """Return a flat JSON array of numbers, or None."""
        try:
            return _numbers(_array(self._parser.parse(text)), dtype)
        except (_Doubt, ValueError, TypeError, RuntimeError):
            return None

    def skim(self, body: bytes, *, max_depth: int) -> dict[str, Any] | None:
        """Return the request with an array in place of each numeric ``data``, or None."""
        # simdjson would pass over a byte order mark.
        if not self._smallest <= len(body) <= _LARGEST or body[:1] != b"{":
            return None
        if max_depth < _OWN_DEPTH:
            return None
        try:
            return _request(self._parser.parse(body), _count_brackets(body), max_depth)
        except (_Doubt, ValueError, TypeError, KeyError, IndexError, RuntimeError):
            return None


def _count_brackets(body: bytes) -> int:
    """Return how many "[" a text holds; most have few, and to search is quicker than to count."""
    at = -1
    for found in range(_FEW_BRACKETS):
        at = body.find(b"[", at + 1)
        if at < 0:
            return found
    return _FEW_BRACKETS + body.count(b"[", at + 1)


def _request(document: object, brackets: int, max_depth: int) -> dict[str, Any]:
    """Return the members of the document; ``brackets`` is how many "[" its text holds.

    Every array that is known is counted, and every bracket in a text.  Are there no more brackets
    than that, then no array hides among the numbers, where simdjson would not show it.
    """
    request: dict[str, Any] = {}
    known = 0
    for key, value in _members(document):
        if key == "inputs" and isinstance(value, simdjson.Array):
            request[key], count = _inputs(value, max_depth - 1)
        else:
            request[key] = _plain(value)
            count = _brackets(request[key], max_depth - 1)
        known += count + key.count("[")
    if known != brackets:
        raise _Doubt
    return request


def _members(document: object) -> Iterator[tuple[str, object]]:
    """Yield an object's members without making Python objects of arrays and objects."""
    if not isinstance(document, simdjson.Object):
        raise _Doubt
    keys = list(document)
    if len(set(keys)) < len(keys):
        # simdjson finds the first of equal keys, orjson the last.
        raise _Doubt
    for key in keys:
        yield key, document[key]


def _inputs(array: simdjson.Array, room: int) -> tuple[list[dict[str, Any]], int]:
    if len(array) > _MAX_TENSORS:
        raise _Doubt
    inputs, known = [], 1
    for entry in array:
        tensor, count = _tensor(entry, room - 1)
        inputs.append(tensor)
        known += count
    return inputs, known


def _tensor(entry: object, room: int) -> tuple[dict[str, Any], int]:
    members = dict(_members(entry))
    dtype = NUMERIC.get(str(members.get("datatype")))
    tensor: dict[str, Any] = {}
    known = 0
    for key, value in members.items():
        if key == "data" and dtype is not None and isinstance(value, simdjson.Array):
            known += _arrays_in(value, room - 1)
            tensor[key] = _numbers(value, dtype)
        else:
            tensor[key] = _plain(value)
            known += _brackets(tensor[key], room - 1)
        known += key.count("[")
    return tensor, known


def _plain(value: object) -> object:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _brackets(value: object, room: int) -> int:
    """Return how many "[" a value was written with, if no text in it was escaped."""
    if isinstance(value, str):
        return value.count("[")
    if not isinstance(value, (dict, list)):
        return 0
    if room < 1:
        raise _Doubt
    if isinstance(value, list):
        return 1 + sum(_brackets(member, room - 1) for member in value)
    return sum(key.count("[") + _brackets(member, room - 1) for key, member in value.items())


def _arrays_in(array: simdjson.Array, room: int) -> int:
    """Return how many arrays a nesting of equal lengths is made of, itself included."""
    level, known = [array], 1
    for _ in range(min(room, _MAX_NESTING)):
        if len(set(map(len, level))) > 1:
            raise _Doubt
        if not len(level[0]) or not isinstance(level[0][0], simdjson.Array):
            return known
        level = [_array(row) for outer in level for row in outer]
        known += len(level)
    raise _Doubt


def _array(value: object) -> simdjson.Array:
    if not isinstance(value, simdjson.Array):
        raise _Doubt
    return value


def _numbers(array: simdjson.Array, dtype: np.dtype[Any]) -> Tensor:
    kind, wide = _KINDS[dtype.kind]
    values: Tensor = np.frombuffer(array.as_buffer(of_type=kind), wide)
    if dtype == values.dtype:
        return values
    if kind != "d" and values.size:
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise _Doubt
    with np.errstate(over="ignore"):
        return values.astype(dtype)
