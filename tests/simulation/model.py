"""The model that the simulation runs: its answers are easy to tell apart, and easy to spoil."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.errors import InvalidRequest
from service.tensors import Tensor, Tensors


def answer(inputs: Tensors, wanted: Sequence[str]) -> dict[str, Tensor]:
    """Return y, a number a row, and z, as wide as x; raises InvalidRequest for a row below 0.

    Where lengths are given, y looks at nothing behind them, while z shows the padding.
    """
    x = inputs["x"]
    if any(code < 0 for code in x[:, 0].tolist()):
        raise InvalidRequest("a row is poison")
    outputs: dict[str, Tensor] = {}
    if "y" in wanted:
        lengths = inputs["lengths"].tolist() if "lengths" in inputs else [x.shape[1]] * len(x)
        sums = [sum(row[:length]) for row, length in zip(x.tolist(), lengths, strict=True)]
        outputs["y"] = np.asarray(sums, np.int64).reshape(len(x), 1)
    if "z" in wanted:
        outputs["z"] = x * 2 + 1
    return outputs
