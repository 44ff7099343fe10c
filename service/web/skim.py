"""A quicker way to read a JSON request: its numbers go straight into arrays, or it says no.

simdjson reads a tensor of floats about four times as fast as a parser that makes Python objects.
It is less strict than the other road, so whatever is not plain is left to that one: the result is
the same array, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import simdjson

from service.tensors import DATATYPES, Tensor
from service.web import instances
from service.web.nested import Doubt, as_array, brackets, count_brackets, members, plain, shape_of

# Below, making and asking proxies costs more than it saves.
_SMALLEST = 1024
# Beyond, the parser's own memory, up to 20 times the body, would count.
_LARGEST = 16 << 20
_MAX_TENSORS = 1024
# The body, its inputs, one of them, and its data.
_OWN_DEPTH = 4
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
            return _numbers(as_array(self._parser.parse(text)), dtype)
        except (Doubt, ValueError, TypeError, RuntimeError):
            return None

    def skim(self, body: bytes, *, max_depth: int) -> dict[str, Any] | None:
        """Return a V2 request with an array in place of each numeric ``data``, or None."""
        return self._read(body, _request, max_depth) if max_depth >= _OWN_DEPTH else None

    def skim_instances(self, body: bytes, *, max_depth: int) -> dict[str, Any] | None:
        """Return a V1 request with arrays in place of numeric instances or columns, or None."""
        return self._read(body, instances.request, max_depth)

    def _read(
        self, body: bytes, reader: Callable[[object, int, int], dict[str, Any]], max_depth: int
    ) -> dict[str, Any] | None:
        # simdjson would pass over a byte order mark.
        if not self._smallest <= len(body) <= _LARGEST or body[:1] != b"{":
            return None
        try:
            return reader(self._parser.parse(body), count_brackets(body), max_depth)
        except (Doubt, ValueError, TypeError, KeyError, IndexError, RuntimeError):
            return None


def _request(document: object, in_text: int, max_depth: int) -> dict[str, Any]:
    """Return the members of the document; ``in_text`` is how many "[" its text holds.

    Every array that is known is counted, and every bracket in a text.  Are there no more brackets
    than that, then no array hides among the numbers, where simdjson would not show it.
    """
    request: dict[str, Any] = {}
    known = 0
    for key, value in members(document):
        if key == "inputs" and isinstance(value, simdjson.Array):
            request[key], count = _inputs(value, max_depth - 1)
        else:
            request[key] = plain(value)
            count = brackets(request[key], max_depth - 1)
        known += count + key.count("[")
    if known != in_text:
        raise Doubt
    return request


def _inputs(array: simdjson.Array, room: int) -> tuple[list[dict[str, Any]], int]:
    if len(array) > _MAX_TENSORS:
        raise Doubt
    inputs, known = [], 1
    for entry in array:
        tensor, count = _tensor(entry, room - 1)
        inputs.append(tensor)
        known += count
    return inputs, known


def _tensor(entry: object, room: int) -> tuple[dict[str, Any], int]:
    entries = dict(members(entry))
    dtype = NUMERIC.get(str(entries.get("datatype")))
    tensor: dict[str, Any] = {}
    known = 0
    for key, value in entries.items():
        if key == "data" and dtype is not None and isinstance(value, simdjson.Array):
            known += shape_of(value, room - 1)[1]
            tensor[key] = _numbers(value, dtype)
        else:
            tensor[key] = plain(value)
            known += brackets(tensor[key], room - 1)
        known += key.count("[")
    return tensor, known


def _numbers(array: simdjson.Array, dtype: np.dtype[Any]) -> Tensor:
    kind, wide = _KINDS[dtype.kind]
    values: Tensor = np.frombuffer(array.as_buffer(of_type=kind), wide)
    if dtype == values.dtype:
        return values
    if kind != "d" and values.size:
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise Doubt
    with np.errstate(over="ignore"):
        return values.astype(dtype)
