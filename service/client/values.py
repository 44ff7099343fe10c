"""What goes in and comes out of the clients, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.tensors import Tensor, TensorSpec

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class InferResult:
    """The answer to `infer`: arrays by output name, in the server's order.

    The arrays belong to the caller.  BYTES are object arrays of ``bytes``, however they travelled,
    and BF16 arrives as float32, which holds every bfloat16 exactly.
    """

    model_name: str
    model_version: str
    id: str | None
    outputs: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        """Return one output."""
        return self.outputs[name]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A classifier's answer for one instance: the best label, its score, and all scores."""

    label: str
    score: float
    scores: Mapping[str, float] = field(repr=False)


Answer: TypeAlias = "Prediction | Plain"


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """What a server says of itself."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model takes and gives; -1 in a shape is an axis of any size."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One version in the repository's index; ``version`` and ``state`` are "" where unknown."""

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class BFloat16:
    """An input for BF16 as bits, for programs without ml_dtypes.

    An array of ``ml_dtypes.bfloat16`` may be given as it is.  ``bits`` is uint16, any shape.
    """

    bits: NDArray[np.uint16]

    @classmethod
    def from_float32(cls, values: NDArray[np.float32]) -> Self:
        """Round to the nearest bfloat16, ties to even; NaN stays NaN."""
        exact = np.asarray(values, np.float32)
        whole = exact.view(np.uint32).astype(np.uint64)
        rounded = (whole + 0x7FFF + ((whole >> 16) & 1)) >> 16
        return cls(np.where(np.isnan(exact), 0x7FC0, rounded).astype(np.uint16))

    def to_float32(self) -> NDArray[np.float32]:
        """Return the same numbers as float32, exactly."""
        return np.asarray(self.bits.astype(np.uint32) << 16).view(np.float32)
