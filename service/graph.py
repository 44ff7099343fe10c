"""What a session's inputs, outputs and answers look like outside: specifications and arrays."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np

from service.errors import BundleError
from service.refusals import Refusal
from service.tensors import ANY_SHAPE, Tensor, TensorSpec, from_onnx

# The one name under which a file may be in ONNX Runtime's own format.
ORT_SUFFIX = ".ort"
_TENSOR = re.compile(r"tensor\(\w+\)")
_OPTIONAL_TENSOR = re.compile(r"optional\((tensor\(\w+\))\)")
_CONTAINER = re.compile(r"(?:seq|map|optional)\(")
_MAPS = "seq(map("
# Where ONNX Runtime's texts hold the place in its own source, with a whole C++ signature behind it.
_PLACE = re.compile(r"/onnxruntime_src/\S+ .*?\)(?: const)? (?=\w)|\b\w+\.cc:\d+ [\w:~]+(?:\(\))? ")
_PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from .*? failed:)?")
_MAX_RAW, _MAX_TEXT = 1500, 400


def input_spec(
    node: Any,  # noqa: ANN401 - ONNX Runtime ships no types
    *,
    optional: bool = False,
    any_shape: Collection[str] | None = (),
) -> TensorSpec:
    """Describe one input; raises BundleError for what no protocol can carry.

    ONNX Runtime shows the same empty shape for a scalar and for an input of which not even the
    number of axes is declared; ``any_shape`` names the latter, None if that is not known.
    """
    _check_name(node, "an input")
    inner = _OPTIONAL_TENSOR.fullmatch(node.type)
    datatype = from_onnx(inner[1] if inner else node.type)
    if datatype is None:
        raise BundleError(
            f"input '{node.name}': {node.type} has no form on the wire", Refusal.UNSUPPORTED_TYPE
        )
    return TensorSpec(
        node.name,
        datatype.wire,
        _shape(node, any_shape),
        optional=optional or inner is not None,
    )


def output_spec(
    node: Any,  # noqa: ANN401 - as above
    *,
    any_shape: Collection[str] | None = (),
) -> TensorSpec:
    """Describe one output; raises BundleError for what no protocol can carry.

    Sequences, maps and optional values keep ONNX Runtime's type as their datatype.  A sequence of
    maps is what a classifier answers, one map a row, so it leads with the batch axis.
    """
    _check_name(node, "an output")
    datatype = from_onnx(node.type)
    if datatype is not None:
        return TensorSpec(node.name, datatype.wire, _shape(node, any_shape))
    elements = _TENSOR.findall(node.type)
    if not _CONTAINER.match(node.type) or not all(map(from_onnx, elements)):
        raise BundleError(
            f"output '{node.name}': {node.type} has no form on the wire", Refusal.UNSUPPORTED_TYPE
        )
    return TensorSpec(node.name, node.type, (-1,) if node.type.startswith(_MAPS) else ())


def _check_name(node: Any, what: str) -> None:  # noqa: ANN401 - as above
    if not node.name:
        raise BundleError(f"{what} of the graph has no name", Refusal.UNSUPPORTED_TYPE)


def _shape(
    node: Any,  # noqa: ANN401 - as above
    any_shape: Collection[str] | None,
) -> tuple[int | str, ...]:
    if not node.shape and (any_shape is None or node.name in any_shape):
        return ANY_SHAPE
    return tuple(_axis(size) for size in node.shape)


def _axis(size: object) -> int | str:
    # ONNX Runtime gives None or '?' for an axis without a name; equal '?' are not the same axis.
    if isinstance(size, int):
        return size
    return str(size) if size and size != "?" else -1


def as_array(value: object, datatype: str) -> Tensor:
    """Return one output as an array, so that it can be cut into rows like any other.

    A sequence of maps becomes an array of as many objects; any other sequence, a map and an
    optional value become an array without axes that holds plain values, ready for JSON.
    """
    if isinstance(value, np.ndarray) and not datatype.startswith("optional("):
        return value
    # Floats of a map come as Python's; as FP32 they are written like those of a tensor.
    leaf = np.float32 if "map(" in datatype and "tensor(float)" in datatype else None
    content = _plain(value, leaf)
    if not datatype.startswith(_MAPS) or not isinstance(content, list):
        whole = np.empty((), object)
        whole[()] = content
        return whole
    rows = np.empty(len(content), object)
    for index, row in enumerate(content):
        rows[index] = row
    return rows


def _plain(value: object, leaf: type[np.float32] | None) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(inner, leaf) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, leaf) for inner in value]
    if isinstance(value, np.ndarray):
        # orjson writes contiguous arrays with axes, and none that hold texts.
        plain = value.ndim and not value.dtype.hasobject
        return np.ascontiguousarray(value) if plain else value.tolist()
    return leaf(value) if leaf is not None and isinstance(value, float) else value


def readable(error: Exception) -> str:
    """Return the first line of ONNX Runtime's text, without codes, source places and escapes."""
    text = str(error).strip() or type(error).__name__
    # Names in it are the file's own and as long as that likes.
    text = _PREFIX.sub("", text.splitlines()[0][:_MAX_RAW])
    text = _PLACE.sub("", text)
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return clean if len(clean) <= _MAX_TEXT else f"{clean[:_MAX_TEXT]}..."
