"""Strict conversion of JSON values to arrays: nothing is coerced in silence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from service.errors import InvalidRequest
from service.tensors import BFLOAT16, Tensor

MAX_DEPTH = 32
# From here on FP64 skips whole numbers, so that it is not known which one was meant.
_GAPS = 2**53


def load_json(raw: bytes, what: str = "body") -> object:
    """Parse JSON; raise InvalidRequest with the place where it is malformed."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if b"NaN" in raw or b"Infinity" in raw:
            return _load_with_constants(raw, what)
        raise InvalidRequest(f"{what}: malformed JSON: {error}") from error


def _load_with_constants(raw: bytes, what: str) -> object:
    """Parse JSON with the tokens NaN, Infinity and -Infinity, which Triton's client writes."""
    try:
        # Given bytes, Python's parser also takes UTF-16, and half surrogate pairs as bytes.
        value: object = json.loads(raw.decode(), parse_float=_finite, parse_int=_whole)
        if b"\\u" in raw:
            # Half a surrogate pair could not be written in any answer; orjson refuses it, too.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what}: malformed JSON: {error}") from error
    return value


def _finite(token: str) -> float:
    number = float(token)
    if not math.isfinite(number):
        raise ValueError(f"number {token:.40} is too large")
    return number


def _whole(token: str) -> int | float:
    # What is longer than 64 bits is a float, as orjson reads it.
    if len(token) <= 20 and -(2**63) <= (number := int(token)) < 2**64:
        return number
    return _finite(token)


def array_from_json(value: object, dtype: np.dtype[Any], what: str) -> Tensor:
    """Return nested lists as an array of ``dtype``, or raise InvalidRequest that names the element.

    An int64, uint64 or float64 array stands for the nested numbers that it was read from.

    Whole numbers may be written as integral floats, null is NaN in a float array, and a number
    beyond FP32 becomes an infinity; everything else that is not exactly representable as asked is
    refused: booleans as numbers, numbers in texts, 300 as UINT8, ragged nesting.
    """
    if isinstance(value, np.ndarray):
        return _converted(value, dtype, what)
    _check_depth(value, what)
    allowed = _allowed_types(dtype)
    types = set(_leaf_types(value))
    if not types <= allowed:
        raise InvalidRequest(_bad_element(value, allowed, dtype, what))
    try:
        if dtype.kind in "iu":
            return _integers(value, dtype, what, exact=types == {int})
        with np.errstate(over="ignore"):
            # bfloat16 itself knows no null.
            array = np.array(value, np.float32 if dtype == BFLOAT16 else dtype)
    except ValueError as error:
        raise InvalidRequest(f"{what}: ragged or mixed nesting of lists") from error
    except OverflowError as error:
        raise InvalidRequest(f"{what}: a whole number is too large for {dtype}") from error
    # For texts, numpy takes the inner lists of a ragged nesting as elements.
    if array.dtype.hasobject and any(isinstance(element, list) for element in array.flat):
        raise InvalidRequest(f"{what}: ragged or mixed nesting of lists")
    return array.astype(dtype, copy=False)


def _converted(numbers: Tensor, dtype: np.dtype[Any], what: str) -> Tensor:
    """Return numbers as `array_from_json` returns the lists of them."""
    if dtype.kind in "iu":
        return _within(_whole_numbers(numbers, dtype, what), dtype, what)
    if not _is_float(dtype):
        raise InvalidRequest(_bad_element(numbers.tolist(), set(), dtype, what))
    with np.errstate(over="ignore"):
        # As Python's numbers do, whole ones become FP64 on their way to a narrower type.
        wide = numbers.astype(np.float64, copy=False)
        narrow = wide.astype(np.float32 if dtype == BFLOAT16 else dtype, copy=False)
        return narrow.astype(dtype, copy=False)


def _whole_numbers(numbers: Tensor, dtype: np.dtype[Any], what: str) -> Tensor:
    if numbers.dtype.kind != "f":
        return numbers
    broken = (numbers != np.trunc(numbers)) | (np.abs(numbers) >= _GAPS)
    if broken.any():
        seen = numbers.reshape(-1)[np.argmax(broken)].item()
        raise InvalidRequest(_not_whole(seen, dtype, what))
    return numbers.astype(np.int64)


def kind_of(value: object) -> str:
    """Return the JSON name of a value's kind, for error texts."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    if value is None:
        return "null"
    if isinstance(value, np.ndarray):
        return "an array"
    return names.get(type(value), f"the number {value!r}")


def _allowed_types(dtype: np.dtype[Any]) -> set[type]:
    if dtype.kind == "b":
        return {bool}
    if dtype.kind == "O":
        return {str}
    if _is_float(dtype):
        return {int, float, type(None)}
    return {int, float}


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype == BFLOAT16


def _leaf_types(value: object) -> Iterator[type]:
    """Yield the types of all elements, each innermost list's types once."""
    if not isinstance(value, list):
        yield type(value)
        return
    types = set(map(type, value))
    if list in types:
        for element in value:
            yield from _leaf_types(element)
    else:
        yield from types


def _check_depth(value: object, what: str) -> None:
    # Iterative, because the input may be nested deeper than the interpreter's stack.
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [e for v in level if isinstance(v, list) for e in v if isinstance(e, list)]
        if not level:
            return
    raise InvalidRequest(f"{what}: nested deeper than {MAX_DEPTH} levels")


def _integers(value: object, dtype: np.dtype[Any], what: str, *, exact: bool) -> Tensor:
    if exact:
        try:
            return np.array(value, dtype)
        except OverflowError:
            found = np.array(value, object)
    else:
        found = _from_floats(value, dtype, what)
    return _within(found, dtype, what)


def _within(found: Tensor, dtype: np.dtype[Any], what: str) -> Tensor:
    """Return whole numbers as ``dtype``, which must be able to hold them."""
    if found.size == 0:
        return found.astype(dtype)
    limits = np.iinfo(dtype)
    low, high = found.min(), found.max()
    if low < limits.min or high > limits.max:
        seen = low if low < limits.min else high
        raise InvalidRequest(f"{what}: {seen} is outside {limits.min}..{limits.max} of {dtype}")
    return found.astype(dtype)


def _from_floats(value: object, dtype: np.dtype[Any], what: str) -> Tensor:
    """Return nested floats and integers as integers of the same value."""
    floats = np.array(value, np.float64)
    if ((np.abs(floats) < _GAPS) & (floats == np.trunc(floats))).all():
        return floats.astype(np.int64)
    return np.array(_without_points(value, dtype, what), object)


def _without_points(value: object, dtype: np.dtype[Any], what: str) -> object:
    """Return nested numbers with every float as the integer that it stands for."""
    if isinstance(value, list):
        return [_without_points(element, dtype, what) for element in value]
    if not isinstance(value, float):
        return value
    if not value.is_integer() or abs(value) >= _GAPS:
        raise InvalidRequest(_not_whole(value, dtype, what))
    return int(value)


def _not_whole(value: float, dtype: np.dtype[Any], what: str) -> str:
    return f"{what}: {value} is not an exact whole number for {dtype}"


def _bad_element(value: object, allowed: set[type], dtype: np.dtype[Any], what: str) -> str:
    path, seen = next(_bad_elements(value, allowed, ""), ("", value))
    kinds = {"b": "true or false", "O": "a string"}
    number = "a number" if _is_float(dtype) else "a whole number"
    wanted = kinds.get(dtype.kind, number)
    if isinstance(seen, float) and abs(seen) < _GAPS and seen.is_integer():
        # An array of numbers does not know which of them were written with a point.
        seen = int(seen)
    return f"{what}{path}: expected {wanted}, got {kind_of(seen)}"


def _bad_elements(value: object, allowed: set[type], path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from _bad_elements(element, allowed, f"{path}[{index}]")
    elif type(value) not in allowed:
        yield path, value
