"""The classification extension: in place of an output's numbers the best of its classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from service.errors import InvalidRequest
from service.tensors import DATATYPES, Tensor


def classes(value: Tensor, best: int, labels: Sequence[str] | None, what: str) -> Tensor:
    """Return ``value:index[:label]`` of the ``best`` elements of each row, the highest first.

    The first axis is rows where there are two axes or more.  The answer is an array of texts
    [rows, min(best, classes)], or without the axis of rows.  Of equal elements the first wins, NaN
    comes last.  Raises InvalidRequest for texts, which have no order that means anything.
    """
    if value.dtype == DATATYPES["BYTES"].numpy:
        raise InvalidRequest(f"{what}: BYTES cannot be classified")
    several = value.ndim > 1
    rows = (
        value.reshape(len(value), math.prod(value.shape[1:])) if several else value.reshape(1, -1)
    )
    order = _descending(rows)[:, :best]
    exact = rows.dtype.kind in "biu"
    texts = [
        _text(int(row[index]) if exact else f"{float(row[index]):.6f}", index, labels)
        for row, indices in zip(rows, order.tolist(), strict=True)
        for index in indices
    ]
    found = np.empty(len(texts), object)
    found[:] = texts
    return found.reshape(order.shape if several else order.shape[1:])


def _descending(rows: Tensor) -> Tensor:
    """Return the indices that sort each row from high to low; equal elements keep their order."""
    if rows.dtype.kind not in "biu":
        return (-rows.astype(np.float64)).argsort(axis=1, kind="stable")
    # Backwards and back, since the negative of an unsigned number is none.
    backwards = rows[:, ::-1].argsort(axis=1, kind="stable")[:, ::-1]
    order: Tensor = rows.shape[1] - 1 - backwards
    return order


def _text(value: object, index: int, labels: Sequence[str] | None) -> str:
    if labels is not None and index < len(labels):
        return f"{value}:{index}:{labels[index]}"
    return f"{value}:{index}"
