"""A V1 request whose numbers have become arrays: instances, columns, or an event around them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import simdjson

from service.tensors import Tensor
from service.web.nested import Doubt, brackets, members, plain, shape_of

# From here on FP64 skips whole numbers, so that it is not known which one was meant.
_GAPS = 2**53
# What simdjson raises where an element is no number of the kind that is asked for.
_NO_NUMBERS = (Doubt, TypeError, ValueError)

# What was read, and how many "[" it was written with.
Found = tuple[object, int]
Reader = Callable[[simdjson.Array, int], tuple[Tensor, int] | None]


def request(document: object, known: int, max_depth: int) -> dict[str, Any]:
    """Return a request's members, arrays of numbers as numpy arrays; ``known`` is its "[" count.

    An instance that is a rectangular nesting of numbers is an int64 array if all are whole numbers,
    uint64 if they need it, else float64 with the values written.  Instances of one shape are views
    of one array.  Raises Doubt where more than that needs to be understood.
    """
    content, count = _content(document, max_depth)
    if count != known:
        raise Doubt
    return content


def _content(document: object, room: int) -> tuple[dict[str, Any], int]:
    if room < 1:
        raise Doubt
    content: dict[str, Any] = {}
    known = 0
    for key, value in members(document):
        content[key], count = _member(key, value, room - 1)
        known += count + key.count("[")
    return content, known


def _member(key: str, value: object, room: int) -> Found:
    if key == "instances" and isinstance(value, simdjson.Array):
        return _instances(value, room)
    if key == "inputs":
        return _inputs(value, room)
    if key == "data" and isinstance(value, simdjson.Object):
        # A CloudEvent's data is the request.
        return _content(value, room)
    return _plain(value, room)


def _instances(array: simdjson.Array, room: int) -> Found:
    table = _table(array, room)
    if table is not None:
        return list(table[0]), table[1]
    if room < 1:
        raise Doubt
    rows: list[object] = []
    known = 1
    for element in array:
        row, count = _instance(element, room - 1)
        rows.append(row)
        known += count
    return rows, known


def _instance(value: object, room: int) -> Found:
    return _named(value, room, _numbers) or _array(value, room, _numbers)


def _inputs(value: object, room: int) -> Found:
    """Return columns by name, the only column, or what else stands there as it is."""
    return _named(value, room, _table) or _array(value, room, _table)


def _named(value: object, room: int, read: Reader) -> Found | None:
    """Return an object with its arrays read, None for another kind of value."""
    if not isinstance(value, simdjson.Object):
        return None
    if room < 1:
        raise Doubt
    found: dict[str, object] = {}
    known = 0
    for key, member in members(value):
        found[key], count = _array(member, room - 1, read)
        known += count + key.count("[")
    return found, known


def _array(value: object, room: int, read: Reader) -> Found:
    """Return an array as ``read`` does, as Python's own objects where that does not take it."""
    numbers = read(value, room) if isinstance(value, simdjson.Array) else None
    return _plain(value, room) if numbers is None else numbers


def _table(array: simdjson.Array, room: int) -> tuple[Tensor, int] | None:
    """Return rows of equal shapes as one array and of how many it was made, None for others.

    Rows of single numbers stay Python's: what one is called in an error depends on its kind.
    """
    if len(array) and isinstance(array[0], simdjson.Array):
        return _numbers(array, room)
    return None


def _numbers(array: simdjson.Array, room: int) -> tuple[Tensor, int] | None:
    """Return a nesting of numbers as one array and of how many it was made, None for others."""
    try:
        shape, known = shape_of(array, room)
        return _exact(array, shape), known
    except _NO_NUMBERS:
        return None


def _exact(array: simdjson.Array, shape: tuple[int, ...]) -> Tensor:
    values = _values(array)
    if not values.size or values.size != math.prod(shape):
        raise Doubt
    return values.reshape(shape)


def _values(array: simdjson.Array) -> Tensor:
    try:
        return np.frombuffer(array.as_buffer(of_type="i"), np.int64)
    except ValueError:
        # Whole numbers, but one of them is too large.
        return np.frombuffer(array.as_buffer(of_type="u"), np.uint64)
    except TypeError:
        values: Tensor = np.frombuffer(array.as_buffer(of_type="d"), np.float64)
        if max(-values.min(), values.max()) >= _GAPS:
            raise Doubt from None
        return values


def _plain(value: object, room: int) -> Found:
    found = plain(value)
    return found, brackets(found, room)
