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
from service.refusals import Refusal
from service.tensors import BFLOAT16, Tensor

MIN_VECTORS = 16
MAX_BYTES = 1 << 30
_EXPECTED = "expected."
_SHAPES = "shapes."
_LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Golden:
    """Raw inputs with one media type, and for each output one expected row a vector.

    ``labels`` are a classifier's expected answers in words, so that labels in another order than
    the scores are noticed; () where none were recorded.
    """

    raws: tuple[bytes, ...]
    media_type: str
    expected: Mapping[str, tuple[Tensor, ...]]
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self.raws)


def dump(golden: Golden) -> bytes:
    """Return the vectors as ``golden.npz``: plain arrays only, so that it loads without pickle.

    Rows of one shape are stacked as ``expected.<output>``; rows of different shapes are written
    flat, with their shapes beside them as ``shapes.<output>``.  Raises BundleError for a text that
    a plain array cannot hold.
    """
    offsets = np.cumsum([0, *(len(raw) for raw in golden.raws)], dtype=np.int64)
    arrays: dict[str, Any] = {
        "raw": np.frombuffer(b"".join(golden.raws), np.uint8),
        "offsets": offsets,
        "media_type": np.asarray(golden.media_type),
    }
    if golden.labels:
        arrays[_LABELS] = np.asarray(golden.labels)
    for name, rows in golden.expected.items():
        if len({row.shape for row in rows}) == 1:
            joined = np.stack(rows)
        else:
            joined = np.concatenate([row.reshape(-1) for row in rows])
            arrays[f"{_SHAPES}{name}"] = np.asarray([row.shape for row in rows])
        arrays[f"{_EXPECTED}{name}"] = _plain(joined, name)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _plain(value: Tensor, name: str) -> Tensor:
    """Return an array that needs no pickle: texts of one width, and bfloat16 as FP32."""
    if value.dtype == BFLOAT16:
        return value.astype(np.float32)
    if not value.dtype.hasobject:
        return value
    texts = value.astype(np.str_)
    # Zero bytes at the end are what numpy fills up with.
    if not np.array_equal(texts.astype(object), value):
        raise BundleError(f"output '{name}': a text that ends in a zero byte cannot be recorded")
    return texts


def load(content: bytes) -> Golden:
    """Read ``golden.npz``; raise BundleError if it is not what `dump` writes."""
    try:
        return _golden(read_npz(content, max_bytes=MAX_BYTES))
    except KeyError as error:
        text = f"golden vectors cannot be read: {error} is missing"
        raise BundleError(text, Refusal.GOLDEN_INVALID) from error
    except (InvalidRequest, TooLarge, ValueError) as error:
        text = f"golden vectors cannot be read: {error}"
        raise BundleError(text, Refusal.GOLDEN_INVALID) from error


def _golden(arrays: Mapping[str, Tensor]) -> Golden:
    offsets = _of_kind(arrays["offsets"], "iu", "offsets", dimensions=1).tolist()
    joined = _of_kind(arrays["raw"], "u", "raw", dimensions=1).tobytes()
    if offsets[:1] != [0] or offsets[-1] != len(joined) or offsets != sorted(offsets):
        raise ValueError(f"offsets {offsets[:4]}... do not cut {len(joined)} bytes")
    raws = tuple(joined[a:b] for a, b in itertools.pairwise(offsets))
    names = [name.removeprefix(_EXPECTED) for name in arrays if name.startswith(_EXPECTED)]
    expected = {
        name: _rows(arrays[f"{_EXPECTED}{name}"], arrays.get(f"{_SHAPES}{name}")) for name in names
    }
    for name, rows in expected.items():
        if len(rows) != len(raws):
            raise ValueError(f"output '{name}' has {len(rows)} answers for {len(raws)} inputs")
    labels: tuple[str, ...] = ()
    if _LABELS in arrays:
        labels = tuple(map(str, _of_kind(arrays[_LABELS], "U", _LABELS, dimensions=1)))
        if len(labels) != len(raws):
            raise ValueError(f"{len(labels)} labels for {len(raws)} inputs")
    media_type = _of_kind(arrays["media_type"], "U", "media_type", dimensions=0)
    return Golden(raws, str(media_type), expected, labels)


def _of_kind(value: Tensor, kinds: str, name: str, *, dimensions: int) -> Tensor:
    if value.dtype.kind not in kinds or value.ndim != dimensions:
        raise ValueError(f"{name} is {value.dtype} {list(value.shape)}")
    return value


def _rows(value: Tensor, shapes: Tensor | None) -> tuple[Tensor, ...]:
    if value.dtype.kind == "U":
        value = value.astype(object)
    if value.ndim == 0:
        raise ValueError("an output's answers are one value without an axis")
    if shapes is None:
        # The dots keep a single text an array.
        return tuple(value[row, ...] for row in range(len(value)))
    if value.ndim != 1 or (_of_kind(shapes, "i", "shapes", dimensions=2) < 0).any():
        raise ValueError(f"shapes {shapes.tolist()[:4]}... for answers {list(value.shape)}")
    sizes: Sequence[int] = [math.prod(shape) for shape in shapes.tolist()]
    if sum(sizes) != value.size:
        raise ValueError(f"shapes ask for {sum(sizes)} elements, there are {value.size}")
    pieces = np.split(value, np.cumsum(sizes)[:-1])
    return tuple(p.reshape(s) for p, s in zip(pieces, shapes.tolist(), strict=True))
