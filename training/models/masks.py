"""The number that a mask writes where nothing may be looked at."""

from __future__ import annotations

import torch


def lowest(dtype: torch.dtype) -> float:
    """Return a number far below any state or score, yet finite in this floating-point type.

    Finite, because a row of padding alone must not become NaN.
    """
    return max(-1e9, torch.finfo(dtype).min / 2)
