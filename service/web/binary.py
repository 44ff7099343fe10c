"""The binary tensor extension: tensors as bytes behind the JSON, in both directions.

The bytes are little-endian, as is every machine that ONNX Runtime is built for.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from service.errors import InvalidRequest
from service.tensors import DATATYPES, Datatype, Tensor, TensorSpec
from service.web.fields import seen

HEADER = b"inference-header-content-length"
_HEADER_NAME = "Inference-Header-Content-Length"
_MAX_DIGITS = 18
_COUNT = struct.Struct("<I")


def json_length(header: bytes | None, body_bytes: int) -> int | None:
    """Return how many bytes of the body are JSON; None means all, 0 that there is no JSON.

    Raises InvalidRequest for a header that is no number, or beyond the body.
    """
    if header is None:
        return None
    text = header.decode("latin-1").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise InvalidRequest(f"{_HEADER_NAME}: expected a number of bytes, got {text[:40]!r}")
    length = int(text)
    if length > body_bytes:
        raise InvalidRequest(f"{_HEADER_NAME}: {length} bytes of JSON, the body has {body_bytes}")
    return length


class Blobs:
    """The bytes behind the JSON, handed out in the order of the request's inputs."""

    def __init__(self, body: bytes, start: int | None) -> None:
        """Begin behind the JSON; without a start (no header came) there are no bytes."""
        self._body = body
        self._at = len(body) if start is None else start
        self._announced = start is not None

    def take(self, size: object, datatype: Datatype, shape: Sequence[int], where: str) -> Tensor:
        """Return the next tensor, a view of the body where its bytes are aligned.

        Raises InvalidRequest where the size is not a size, not there, or not the shape's.
        """
        what = f"{where}.parameters.binary_data_size"
        if type(size) is not int or size < 0:
            raise InvalidRequest(f"{what}: expected a whole number >= 0, got {seen(size)}")
        if size and not self._announced:
            raise InvalidRequest(f"{what}: {size}, but the header {_HEADER_NAME} is missing")
        left = len(self._body) - self._at
        if size > left:
            raise InvalidRequest(f"{what}: {size}, but only {left} bytes are left in the body")
        start = self._at
        self._at += size
        return tensor(self._body, start, size, datatype=datatype, shape=shape, where=where)

    def end(self) -> None:
        """Raise InvalidRequest if bytes are left that belong to no tensor."""
        left = len(self._body) - self._at
        if left:
            raise InvalidRequest(f"body: {left} bytes behind the last tensor")


def tensor(
    body: bytes, start: int, size: int, *, datatype: Datatype, shape: Sequence[int], where: str
) -> Tensor:
    """Return ``size`` bytes of a body as a tensor; raises InvalidRequest if they do not fit."""
    count = math.prod(shape)
    if not datatype.size:
        return _texts(body[start : start + size], count, where).reshape(shape)
    if size != count * datatype.size:
        raise InvalidRequest(
            f"{where}: shape {list(shape)} of {datatype.wire} takes {count * datatype.size} bytes, "
            f"got {size}"
        )
    if not size:
        return np.empty(shape, datatype.numpy)
    if datatype.wire == "BOOL":
        return _booleans(np.frombuffer(body, np.uint8, count, start), where).reshape(shape)
    values = np.frombuffer(body, datatype.numpy, count, start)
    # Compiled loops may count on aligned elements; what stands behind JSON often is not.
    return (values if values.flags.aligned else values.copy()).reshape(shape)


def _booleans(values: Tensor, where: str) -> Tensor:
    if values.max() > 1:
        position = int(np.argmax(values > 1))
        raise InvalidRequest(f"{where}: element {position} is {values[position]}, BOOL is 0 or 1")
    return values.view(np.bool_)


def _texts(blob: bytes, count: int, where: str) -> Tensor:
    """Return the elements of a BYTES tensor, each with its length in front of it."""
    texts: list[str] = []
    for element in _elements(blob, where):
        if len(texts) == count:
            raise InvalidRequest(f"{where}: more than the {count} elements that its shape takes")
        texts.append(_text(element, len(texts), where))
    if len(texts) < count:
        raise InvalidRequest(f"{where}: shape takes {count} elements, got {len(texts)}")
    found = np.empty(count, object)
    found[:] = texts
    return found


def _text(element: bytes, index: int, where: str) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        # ONNX Runtime takes strings as UTF-8 and in no other way.
        raise InvalidRequest(
            f"{where}: element {index} is not UTF-8, byte {error.start} is "
            f"0x{element[error.start]:02x}"
        ) from error


def _elements(blob: bytes, where: str) -> Iterator[bytes]:
    at = 0
    while at < len(blob):
        start = at + _COUNT.size
        if start > len(blob):
            raise InvalidRequest(f"{where}: {len(blob) - at} bytes behind the last element")
        (size,) = _COUNT.unpack_from(blob, at)
        at = start + size
        if at > len(blob):
            raise InvalidRequest(
                f"{where}: an element of {size} bytes, {len(blob) - start} are left"
            )
        yield blob[start:at]


def raw(body: bytes, specs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    """Return the only input of a model from a body that is nothing else, as one row.

    One more axis may be variable, its size follows from the body's.  A BYTES input of one element
    is the body without a length in front.  Raises InvalidRequest where a shape cannot be told.
    """
    if len(specs) != 1:
        raise InvalidRequest(f"body: without JSON it is one input, the model has {len(specs)}")
    spec = specs[0]
    where = f"input '{spec.name}'"
    sizes = spec.wire_shape
    shape = [1, *sizes[1:]] if spec.leads_with_batch else sizes
    datatype = DATATYPES[spec.datatype]
    if not datatype.size:
        if shape.count(1) < len(shape):
            raise InvalidRequest(f"{where}: shape {sizes} is more than one text, send JSON")
        return {spec.name: np.asarray(_text(body, 0, where), object).reshape(shape)}
    count, rest = divmod(len(body), datatype.size)
    if rest:
        raise InvalidRequest(
            f"{where}: {len(body)} bytes are not a whole number of {datatype.wire}, "
            f"which takes {datatype.size}"
        )
    if -1 in shape:
        shape = _completed(shape, count, where)
    if math.prod(shape) != count:
        raise InvalidRequest(
            f"{where}: {len(body)} bytes are {count} elements of {datatype.wire}, "
            f"which is no row of shape {sizes}"
        )
    found = tensor(body, 0, len(body), datatype=datatype, shape=shape, where=where)
    return {spec.name: found}


def _completed(shape: Sequence[int], count: int, where: str) -> list[int]:
    """Give the variable axis the size that makes ``count`` elements, rounded down."""
    if shape.count(-1) > 1:
        raise InvalidRequest(f"{where}: shape {list(shape)} has several unknown axes, send JSON")
    fixed = math.prod(size for size in shape if size != -1)
    return [count // max(1, fixed) if size == -1 else size for size in shape]


def encode(value: Tensor) -> bytes | memoryview:
    """Return a tensor's bytes; a view of its memory where that lies in order."""
    if not value.dtype.hasobject:
        # Buffers know no bfloat16, but every type is bytes.
        return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    parts: list[bytes] = []
    for element in value.reshape(-1).tolist():
        content = element.encode() if isinstance(element, str) else bytes(element)
        parts += (_COUNT.pack(len(content)), content)
    return b"".join(parts)
