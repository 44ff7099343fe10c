"""Views into a parsed JSON document, taken apart without making Python objects of its numbers.

simdjson is less strict than the parser of the other road, and flattens what is nested among numbers
without a word.  So every array that is seen is counted, and compared with the brackets in the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import simdjson

_MAX_NESTING = 32
_FEW_BRACKETS = 64


class Doubt(Exception):
    """Something is not plain; the other road knows what to do or say."""


def count_brackets(body: bytes) -> int:
    """Return how many "[" a text holds; most have few, and to search is quicker than to count."""
    at = -1
    for found in range(_FEW_BRACKETS):
        at = body.find(b"[", at + 1)
        if at < 0:
            return found
    return _FEW_BRACKETS + body.count(b"[", at + 1)


def members(document: object) -> Iterator[tuple[str, object]]:
    """Yield an object's members without making Python objects of arrays and objects.

    Raises Doubt for another kind of value, and where members share a name.
    """
    if not isinstance(document, simdjson.Object):
        raise Doubt
    keys = list(document)
    if len(set(keys)) < len(keys):
        # simdjson finds the first of equal keys, orjson the last.
        raise Doubt
    for key in keys:
        yield key, document[key]


def plain(value: object) -> object:
    """Return a value as Python's own objects."""
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def brackets(value: object, room: int) -> int:
    """Return how many "[" a value was written with, if no text in it was escaped.

    Raises Doubt beyond ``room`` levels.
    """
    if isinstance(value, str):
        return value.count("[")
    if not isinstance(value, (dict, list)):
        return 0
    if room < 1:
        raise Doubt
    if isinstance(value, list):
        return 1 + sum(brackets(member, room - 1) for member in value)
    return sum(key.count("[") + brackets(member, room - 1) for key, member in value.items())


def shape_of(array: simdjson.Array, room: int) -> tuple[tuple[int, ...], int]:
    """Return the shape of a nesting of equal lengths, and of how many arrays it is made.

    How deep it is the first element tells: the count shows whether others are deeper.  Raises Doubt
    where lengths differ, or beyond ``room`` levels.
    """
    shape = _first_shape(array)
    if len(shape) > min(room, _MAX_NESTING) or not _has_rows(array, shape[1:]):
        raise Doubt
    return shape, sum(math.prod(shape[:axis]) for axis in range(len(shape)))


def _first_shape(array: simdjson.Array) -> tuple[int, ...]:
    """Return the sizes of an array, of its first element, of that one's first, and so on."""
    shape = [len(array)]
    while shape[-1] and isinstance(first := array[0], simdjson.Array):
        array = first
        shape.append(len(array))
    return tuple(shape)


def _has_rows(array: simdjson.Array, shape: tuple[int, ...]) -> bool:
    # One after the other, since each view costs memory, and a million of them time to give back.
    if not shape:
        return True
    size, inner = shape[0], shape[1:]
    rows = map(as_array, array)
    return all(len(row) == size and (not inner or _has_rows(row, inner)) for row in rows)


def as_array(value: object) -> simdjson.Array:
    """Return what must be an array; raises Doubt if it is none."""
    if not isinstance(value, simdjson.Array):
        raise Doubt
    return value
