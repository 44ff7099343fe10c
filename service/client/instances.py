"""What may be given to `predict`, as the instances of a V1 request."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import orjson

from service.client.arrays import dump_json, is_finite
from service.client.errors import InvalidInput
from service.tensors import Tensor

PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
_KNOWN = (*PICTURES, ".txt", ".json", ".npy")

Instance: TypeAlias = (
    str | bytes | os.PathLike[str] | Tensor | Mapping[str, object] | float | Sequence[object]
)
Instances: TypeAlias = Instance | Iterable[Instance]


def encode_instances(given: Instances) -> bytes:
    """Return the body for one instance or for many; raises InvalidInput that names the instance.

    A text, bytes, a path, an array or an object is one instance; anything else that can be
    iterated holds many.
    """
    one = isinstance(given, str | bytes | os.PathLike | np.ndarray | Mapping)
    many: Iterable[object] = given if isinstance(given, Iterable) and not one else [given]
    found = [
        value
        for index, instance in enumerate(many)
        for value in _values(instance, f"instances[{index}]")
    ]
    if not found:
        raise InvalidInput("instances: empty, at least one is needed")
    return dump_json({"instances": found}, finite=_finite(found))


def read_file(file: Path) -> bytes:
    """Return a file's content; raises InvalidInput with the reason if it cannot be had."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from error


def _values(instance: object, where: str) -> list[object]:
    """Return what goes into the request for one element; a JSON file may hold several."""
    if isinstance(instance, os.PathLike):
        return _from_file(Path(instance))
    return [_value(instance, where)]


def _value(value: object, where: str) -> object:
    if isinstance(value, str | bool | int | float | None):
        return value
    if isinstance(value, bytes):
        return _picture(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _plain(value, where)
    if isinstance(value, Mapping):
        return {str(key): _value(one, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_value(one, where) for one in value]
    raise InvalidInput(f"{where}: {type(value).__name__} has no form in JSON")


def _picture(content: bytes) -> object:
    return {"b64": base64.b64encode(content).decode()}


def _plain(array: Tensor, where: str) -> object:
    """Return an array that orjson writes, or nested lists where it would not."""
    if array.dtype.kind in "biuf":
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        return native if array.ndim else native.reshape(()).item()
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    if array.dtype.kind in "OSUT":
        return _texts(array.tolist(), where)
    raise InvalidInput(f"{where}: {array.dtype} has no form in JSON")


def _texts(value: object, where: str) -> object:
    if isinstance(value, list):
        return [_texts(one, where) for one in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{where}: {error}") from error
    return _value(value, where)


def _finite(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return is_finite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _from_file(file: Path) -> list[object]:
    kind = file.suffix.lower()
    if kind not in _KNOWN:
        raise InvalidInput(f"{file}: unknown kind of file '{kind}'; known are {', '.join(_KNOWN)}")
    content = read_file(file)
    if kind in PICTURES:
        return [_picture(content)]
    try:
        if kind == ".npy":
            with file.open("rb") as opened:
                return [_plain(np.load(opened, allow_pickle=False), str(file))]
        if kind == ".txt":
            return [content.decode()]
        value = orjson.loads(content)
    except ValueError as error:
        raise InvalidInput(f"{file}: {error}") from error
    whole = isinstance(value, dict) and isinstance(value.get("instances"), list)
    return list(value["instances"]) if whole else [value]
