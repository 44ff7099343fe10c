"""Messages between a worker and the process that runs one of its models: a head, then tensors."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import ml_dtypes
import numpy as np

from service.errors import ControlBroken
from service.tensors import Tensor, Tensors

_HEAD: Final = struct.Struct("!IQ")
_MAX_HEAD: Final = 64 << 20
_MAX_BODY: Final = 1 << 40
_TEXTS: Final = "texts"


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is said, in JSON, and the tensors that belong to it."""

    said: Mapping[str, Any]
    tensors: Tensors = field(default_factory=dict)


def send_parcel(connection: socket.socket, parcel: Parcel) -> None:
    """Send all of it; raises OSError where nobody takes it."""
    listed: list[list[Any]] = []
    parts: list[Tensor] = []
    for name, value in parcel.tensors.items():
        if value.dtype.hasobject:
            listed.append([name, _TEXTS, list(value.shape), [_plain(v) for v in value.ravel()]])
        else:
            whole = np.ascontiguousarray(value)
            listed.append([name, value.dtype.name, list(value.shape), whole.nbytes])
            parts.append(whole)
    head = json.dumps([parcel.said, listed]).encode()
    connection.sendall(_HEAD.pack(len(head), sum(part.nbytes for part in parts)) + head)
    for part in parts:
        connection.sendall(part.view(np.uint8).data if part.size else b"")


def _plain(value: object) -> object:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def receive_parcel(connection: socket.socket) -> Parcel | None:
    """Wait for a parcel and return it, None when the other end has gone.

    Raises ControlBroken for what is none.
    """
    start = _exactly(connection, _HEAD.size)
    if start is None:
        return None
    head_bytes, body_bytes = _HEAD.unpack(start)
    if head_bytes > _MAX_HEAD or body_bytes > _MAX_BODY:
        raise ControlBroken(f"a message of {head_bytes} and {body_bytes} bytes")
    head = _exactly(connection, head_bytes)
    body = None if head is None else _exactly(connection, body_bytes)
    if head is None or body is None:
        return None
    try:
        said, listed = json.loads(head)
        return Parcel(said, _tensors(listed, memoryview(body)))
    except (ValueError, TypeError) as error:
        raise ControlBroken(f"a message that is none: {error}") from error


def _tensors(listed: list[Any], body: memoryview) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    start = 0
    for name, kind, shape, content in listed:
        if kind == _TEXTS:
            tensors[name] = np.asarray(content, dtype=object).reshape(shape)
            continue
        tensors[name] = np.frombuffer(body[start : start + content], _dtype(kind)).reshape(shape)
        start += content
    return tensors


def _dtype(name: str) -> np.dtype[Any]:
    # numpy knows all kinds but one by their names.
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _exactly(connection: socket.socket, size: int) -> bytearray | None:
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        try:
            got = connection.recv_into(view[done:])
        except ConnectionError:
            return None
        if not got:
            return None
        done += got
    return buffer
