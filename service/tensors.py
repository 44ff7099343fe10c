"""Datatypes, tensor specifications and the checks that every tensor passes before it is queued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import DTypeLike, NDArray

from service.errors import InvalidRequest

Tensor = NDArray[Any]
Tensors = Mapping[str, Tensor]
ANY_SHAPE = ("...",)

# numpy has no such type of its own; it counts this one neither as a float nor as a number.
BFLOAT16 = np.dtype(bfloat16)


@dataclass(frozen=True, slots=True)
class Datatype:
    """One element type: its name on the wire, in numpy and in ONNX Runtime."""

    wire: str
    numpy: np.dtype[Any]
    onnx: str

    @property
    def size(self) -> int:
        """Bytes of one element; 0 where elements differ in size (BYTES)."""
        return 0 if self.numpy.hasobject else self.numpy.itemsize

    @property
    def is_integer(self) -> bool:
        """Whether elements are whole numbers, signed or not."""
        return self.numpy.kind in "iu"

    @property
    def is_float(self) -> bool:
        """Whether elements are floating-point numbers."""
        return self.numpy.kind == "f" or self.numpy == BFLOAT16


def _datatypes(*rows: tuple[str, DTypeLike, str]) -> dict[str, Datatype]:
    return {wire: Datatype(wire, np.dtype(kind), f"tensor({onnx})") for wire, kind, onnx in rows}


DATATYPES: Mapping[str, Datatype] = _datatypes(
    ("BOOL", np.bool_, "bool"),
    ("UINT8", np.uint8, "uint8"),
    ("UINT16", np.uint16, "uint16"),
    ("UINT32", np.uint32, "uint32"),
    ("UINT64", np.uint64, "uint64"),
    ("INT8", np.int8, "int8"),
    ("INT16", np.int16, "int16"),
    ("INT32", np.int32, "int32"),
    ("INT64", np.int64, "int64"),
    ("FP16", np.float16, "float16"),
    ("BF16", BFLOAT16, "bfloat16"),
    ("FP32", np.float32, "float"),
    ("FP64", np.float64, "double"),
    ("BYTES", np.object_, "string"),
)
_BY_ONNX = {datatype.onnx: datatype for datatype in DATATYPES.values()}
_BY_NUMPY = {datatype.numpy: datatype for datatype in DATATYPES.values()}


def from_onnx(type_name: str) -> Datatype | None:
    """Return the datatype for ONNX Runtime's ``tensor(float)`` and the like, if there is one."""
    return _BY_ONNX.get(type_name)


def from_numpy(dtype: np.dtype[Any]) -> Datatype | None:
    """Return the datatype for a numpy dtype in native byte order, if there is one."""
    return _BY_NUMPY.get(dtype)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What one input or output of a graph looks like.

    ``shape`` holds whole numbers for fixed axes, -1 for an axis of any size, and a text for a
    symbolic axis: axes that share a name must have the same size in one request.  A shape of
    `ANY_SHAPE` says that not even the number of axes is known.  ``minimum`` and ``maximum`` are
    inclusive bounds on every element, and so is the size of the axis ``maximum_axis`` in the same
    request; ``finite`` refuses NaN and infinities.  An ``optional`` input may be left out, and
    belongs to a whole request instead of to its rows.

    An output that is no tensor has ONNX Runtime's type as its datatype, such as
    ``seq(map(int64,tensor(float)))``.
    """

    name: str
    datatype: str
    shape: tuple[int | str, ...]
    minimum: float | None = None
    maximum: float | None = None
    finite: bool = False
    optional: bool = False
    maximum_axis: str = ""

    @property
    def is_tensor(self) -> bool:
        """Whether the protocol can carry it; sequences and maps are not tensors."""
        return self.datatype in DATATYPES

    @property
    def wire_shape(self) -> list[int]:
        """The shape as the protocol's metadata shows it, -1 for every variable axis."""
        return [size if isinstance(size, int) else -1 for size in self.shape]

    @property
    def leads_with_batch(self) -> bool:
        """Whether the first axis may have any size, so that rows can be stacked along it."""
        if not self.shape or self.shape == ANY_SHAPE:
            return False
        return isinstance(self.shape[0], str) or self.shape[0] < 0


def inner_axes(specs: Sequence[TensorSpec]) -> set[str]:
    """Return the names of all axes but the first: one that is also a first axis counts no rows."""
    return {axis for spec in specs for axis in spec.shape[1:] if isinstance(axis, str)}


def check(inputs: Tensors, specs: Sequence[TensorSpec]) -> None:
    """Raise InvalidRequest unless ``inputs`` are exactly the tensors that ``specs`` describe."""
    known = {spec.name: spec for spec in specs}
    for name in inputs:
        if name not in known:
            expected = ", ".join(f"'{spec.name}'" for spec in specs) or "none"
            raise InvalidRequest(
                f"input '{name}': the model has no such input; it takes {expected}"
            )
    axes: dict[str, tuple[int, str]] = {}
    for spec in specs:
        if spec.name not in inputs:
            if spec.optional:
                continue
            raise InvalidRequest(f"input '{spec.name}': missing")
        value = inputs[spec.name]
        _check_datatype(value, spec)
        _check_shape(value.shape, spec, axes)
        _check_values(value, spec)
    for spec in specs:
        if spec.maximum_axis in axes and spec.name in inputs:
            _check_axis_bound(inputs[spec.name], spec, axes[spec.maximum_axis])


def _check_axis_bound(value: Tensor, spec: TensorSpec, axis: tuple[int, str]) -> None:
    size, owner = axis
    over = value > size
    if over.any():
        position = int(np.argmax(over))
        raise InvalidRequest(
            f"input '{spec.name}': element {position} is {value.reshape(-1)[position]}, but axis "
            f"'{spec.maximum_axis}' of input '{owner}' is {size} long"
        )


def _check_datatype(value: Tensor, spec: TensorSpec) -> None:
    if value.dtype != DATATYPES[spec.datatype].numpy:
        found = from_numpy(value.dtype)
        seen = found.wire if found else str(value.dtype)
        raise InvalidRequest(f"input '{spec.name}': expected {spec.datatype}, got {seen}")


def _check_shape(
    shape: tuple[int, ...], spec: TensorSpec, axes: dict[str, tuple[int, str]]
) -> None:
    """Compare a shape with its spec; ``axes`` remembers the size of each symbolic axis.

    ONNX Runtime broadcasts inputs whose batch sizes differ without a word, so equal names must be
    held equal here.
    """
    if spec.shape == ANY_SHAPE:
        return
    wanted = list(spec.shape)
    if len(shape) != len(wanted):
        raise InvalidRequest(
            f"input '{spec.name}': expected {len(wanted)} dimensions {spec.wire_shape}, "
            f"got {len(shape)}: {list(shape)}"
        )
    for size, want in zip(shape, wanted, strict=True):
        if isinstance(want, str):
            seen, first = axes.setdefault(want, (size, spec.name))
            if seen != size:
                raise InvalidRequest(
                    f"input '{spec.name}': axis '{want}' is {size}, but {seen} in input '{first}'"
                )
        elif want not in (-1, size):
            raise InvalidRequest(
                f"input '{spec.name}': expected shape {spec.wire_shape}, got {list(shape)}"
            )


def _check_values(value: Tensor, spec: TensorSpec) -> None:
    if value.size == 0 or value.dtype.hasobject:
        return
    if spec.finite and not np.isfinite(value).all():
        position = int(np.flatnonzero(~np.isfinite(value))[0])
        seen = value.reshape(-1)[position]
        raise InvalidRequest(f"input '{spec.name}': element {position} is {seen}, must be finite")
    _check_bounds(value, spec)


# A bound that a narrow type cannot hold is an infinity there, which no element is beyond.
@np.errstate(over="ignore")
def _check_bounds(value: Tensor, spec: TensorSpec) -> None:
    # fmin and fmax pass over NaN, which `finite` refuses or allows; min and max stop at it.
    if spec.minimum is not None and (low := np.fmin.reduce(value, axis=None)) < spec.minimum:
        raise InvalidRequest(
            f"input '{spec.name}': {low} is below the smallest value {spec.minimum:.12g}"
        )
    if spec.maximum is not None and (high := np.fmax.reduce(value, axis=None)) > spec.maximum:
        raise InvalidRequest(
            f"input '{spec.name}': {high} is above the largest value {spec.maximum:.12g}"
        )


def stack(parts: Sequence[Tensors]) -> dict[str, Tensor]:
    """Join the tensors of several jobs along the batch axis; their trailing shapes must agree."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def split(tensors: Tensors, rows: Sequence[int]) -> list[dict[str, Tensor]]:
    """Cut joined tensors back into one set a job; ``rows`` are the jobs' sizes in order."""
    parts = []
    start = 0
    for size in rows:
        end = start + size
        parts.append({name: value[start:end] for name, value in tensors.items()})
        start = end
    return parts


def pad_rows(rows: Sequence[Tensor]) -> Tensor:
    """Stack arrays [length, ...] into [rows, longest, ...], with zeros behind the short ones."""
    longest = max(row.shape[0] for row in rows)
    first = rows[0]
    padded = np.zeros((len(rows), longest, *first.shape[1:]), first.dtype)
    for index, row in enumerate(rows):
        padded[index, : row.shape[0]] = row
    return padded
