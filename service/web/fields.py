"""Members of JSON objects, read strictly: every refusal names the member and the value seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.arrays import kind_of
from service.errors import InvalidRequest

_SCALARS = (str, int, float, bool)
_LARGEST = 2**64 - 1
# Beyond, a number's digits say less than its exponent.
_TOO_LONG = 1e30


def text(owner: Mapping[str, Any], key: str, where: str) -> str:
    """Return a member that must be a text and not empty."""
    value = owner.get(key)
    if value is None:
        raise InvalidRequest(f"{where}.{key}: missing")
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{key}: expected a string, got {kind_of(value)}")
    if not value:
        raise InvalidRequest(f"{where}.{key}: empty")
    return value


def objects(owner: Mapping[str, Any], key: str, *, needed: bool) -> list[Mapping[str, Any]]:
    """Return a member that must be an array of objects; missing means none unless needed."""
    value = owner.get(key)
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


def parameters(owner: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return the parameters of a request or a tensor; null stands for none."""
    value = owner.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where}: expected an object, got {kind_of(value)}")
    for key, member in value.items():
        if member is not None and not isinstance(member, _SCALARS):
            raise InvalidRequest(
                f"{where}.{key}: expected a string, a number or a boolean, got {kind_of(member)}"
            )
    return value


def unsigned(owner: Mapping[str, Any], key: str, where: str) -> int | None:
    """Return a member that must be a whole number of 0 or more; None where it is missing."""
    value = owner.get(key)
    if value is None:
        return None
    # A boolean is an int in Python, and orjson makes floats of integers beyond 64 bits.
    if type(value) is not int or value < 0:
        raise InvalidRequest(
            f"{where}.{key}: expected a whole number from 0 to {_LARGEST}, got {seen(value)}"
        )
    return value


def flag(owner: Mapping[str, Any], key: str, where: str) -> bool:
    """Return a member that must be true or false; false where it is missing."""
    value = owner.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"{where}.{key}: expected true or false, got {seen(value)}")
    return value


def seen(value: object) -> str:
    """Return what was found in place of what was expected, a text in its quotes."""
    if isinstance(value, float) and _LARGEST < abs(value) < _TOO_LONG:
        # It was a whole number, but longer than the parser's integers.
        return f"the number {value:.0f}"
    return repr(value) if isinstance(value, str) else kind_of(value)
