"""Golden vectors: raw inputs and the answers that the exporter recorded for each of them."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.errors import BundleError, InvalidRequest, TooLarge
from service.npz import read_npz
from service.tensors import Tensor

MIN_VECTORS = 16
MAX_BYTES = 1 << 30
_EXPECTED = "expected."
_SHAPES = ".shapes"


@dataclass(frozen=True, slots=True)
class Golden:
    """Raw inputs with one media type, and for each output one expected row a vector."""

    raws: tuple[bytes, ...]
    media_type: str
    expected: Mapping[str, tuple[Tensor, ...]]

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self.raws)


def dump(golden: Golden) -> bytes:
    """Return the vectors as ``golden.npz``: plain arrays only, so that it loads without pickle.

    Rows of one shape are stacked as ``expected.<output>``; rows of different shapes are written
    flat, with their shapes beside them as ``expected.<output>.shapes``.
    """
    joined = np.frombuffer(b"".join(golden.raws), np.uint8)
    offsets = np.cumsum([0, *(len(raw) for raw in golden.raws)], dtype=np.int64)
    arrays: dict[str, Any] = {
        "raw": joined,
        "offsets": offsets,
        "media_type": np.asarray(golden.media_type),
    }
    for name, rows in golden.expected.items():
        if len({row.shape for row in rows}) == 1:
            arrays[f"{_EXPECTED}{name}"] = np.stack(rows)
        else:
            arrays[f"{_EXPECTED}{name}"] = np.concatenate([row.reshape(-1) for row in rows])
            arrays[f"{_EXPECTED}{name}{_SHAPES}"] = np.asarray([row.shape for row in rows])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def load(content: bytes) -> Golden:
    """Read ``golden.npz``; raise BundleError if it is not what `dump` writes."""
    try:
        return _golden(read_npz(content, max_bytes=MAX_BYTES))
    except KeyError as error:
        raise BundleError(f"golden vectors cannot be read: {error} is missing") from error
    except (InvalidRequest, TooLarge, ValueError) as error:
        raise BundleError(f"golden vectors cannot be read: {error}") from error


def _golden(arrays: Mapping[str, Tensor]) -> Golden:
    offsets = _integers(arrays["offsets"], "offsets", dimensions=1).tolist()
    joined = arrays["raw"].tobytes()
    if offsets[:1] != [0] or offsets[-1] != len(joined) or offsets != sorted(offsets):
        raise ValueError(f"offsets {offsets[:4]}... do not cut {len(joined)} bytes")
    raws = tuple(joined[a:b] for a, b in itertools.pairwise(offsets))
    expected = {
        name.removeprefix(_EXPECTED): _rows(value, arrays.get(f"{name}{_SHAPES}"))
        for name, value in arrays.items()
        if name.startswith(_EXPECTED) and not name.endswith(_SHAPES)
    }
    for name, rows in expected.items():
        if len(rows) != len(raws):
            raise ValueError(f"output '{name}' has {len(rows)} answers for {len(raws)} inputs")
    return Golden(raws, str(arrays["media_type"]), expected)


def _integers(value: Tensor, name: str, *, dimensions: int) -> Tensor:
    if value.dtype.kind not in "iu" or value.ndim != dimensions:
        raise ValueError(f"{name}: whole numbers expected, not {value.dtype} {list(value.shape)}")
    return value


def _rows(value: Tensor, shapes: Tensor | None) -> tuple[Tensor, ...]:
    if value.ndim == 0:
        raise ValueError("an output's answers are one value without an axis")
    if shapes is None:
        return tuple(value)
    _integers(shapes, "shapes", dimensions=2)
    sizes: Sequence[int] = [math.prod(shape) for shape in shapes.tolist()]
    if sum(sizes) != value.size:
        raise ValueError(f"shapes ask for {sum(sizes)} elements, there are {value.size}")
    pieces = np.split(value, np.cumsum(sizes)[:-1])
    return tuple(p.reshape(s) for p, s in zip(pieces, shapes.tolist(), strict=True))
