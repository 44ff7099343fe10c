"""Which examples train and which are held back: the same for the same seed, class by class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataError, Examples


def split(examples: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Return the examples kept and the ``fraction`` of each class held back, both in their order.

    Every class with at least two examples is in both parts; a class with one is kept. Adding
    examples of one class does not move those of another. Raises DataError for a fraction outside
    0..1 and where nothing can be held back.
    """
    if not 0 < fraction < 1:
        raise DataError(f"fraction {fraction} to hold back: must be between 0 and 1")
    held = np.zeros(len(examples), bool)
    for label in np.unique(examples.labels).tolist():
        members = np.flatnonzero(examples.labels == label)
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held[_draw(members, count, (seed, label))] = True
    if not held.any():
        raise DataError(f"{len(examples)} examples: no class has two, none can be held back")
    return examples.take(np.flatnonzero(~held)), examples.take(np.flatnonzero(held))


def at_most(examples: Examples, limit: int, seed: int) -> Examples:
    """Return about ``limit`` examples with the class shares of all of them, one a class at least.

    0 or a limit that is not reached returns them all.
    """
    if limit <= 0 or limit >= len(examples):
        return examples
    classes, counts = np.unique(examples.labels, return_counts=True)
    kept = [
        _draw(np.flatnonzero(examples.labels == label), max(1, share), (seed, label))
        for label, share in zip(
            classes.tolist(), (counts * limit // len(examples)).tolist(), strict=True
        )
    ]
    return examples.take(np.sort(np.concatenate(kept)))


def _draw(members: NDArray[np.int64], count: int, seed: tuple[int, int]) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(members)[:count]
