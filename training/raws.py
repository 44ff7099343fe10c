"""Examples as a client would send them, so that what is measured is what is served."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from PIL import Image

from service.golden import MIN_VECTORS
from training.data.dataset import DataSet, Examples, Kind

MEDIA_TYPES: dict[Kind, str] = {
    "image": "image/png",
    "sequence": "application/json",
    "text": "text/plain; charset=utf-8",
}


def to_raw(example: Any) -> bytes:  # noqa: ANN401 - a picture, a series or a text
    """Return a text as UTF-8, a picture [height, width, channels] as PNG, a series as JSON."""
    if isinstance(example, str):
        # A lone surrogate has no UTF-8; the tokenizer reads it as a question mark too.
        return example.encode("utf-8", "replace")
    array = np.asarray(example)
    if array.dtype == np.uint8:
        buffer = io.BytesIO()
        grey = array.shape[2] == 1
        Image.fromarray(np.ascontiguousarray(array[..., 0] if grey else array)).save(buffer, "PNG")
        return buffer.getvalue()
    return json.dumps(array.tolist(), separators=(",", ":")).encode()


def golden_examples(dataset: DataSet, *, count: int = MIN_VECTORS) -> list[Any]:
    """Return at least ``count`` examples, taken from the classes in turn, every class among them.

    Test rows come first; a class without any gives training rows.  Where there are too few, they
    repeat.
    """
    by_class = [
        [e.inputs[i] for e in (dataset.test, dataset.train) for i in _rows_of(e, label)]
        for label in range(len(dataset.classes))
    ]
    wanted = max(count, len(by_class))
    turns = -(-wanted // len(by_class))
    chosen = [of_class[turn % len(of_class)] for turn in range(turns) for of_class in by_class]
    return chosen[:wanted]


def _rows_of(examples: Examples, label: int) -> list[int]:
    rows: list[int] = np.flatnonzero(examples.labels == label).tolist()
    return rows
