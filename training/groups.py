"""Folds of the training rows in which near copies stay together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Examples

# A run of words that more texts share is a footer or a form, and says nothing of their origin.
COMMON = 8
RUN = 6
_WORD = re.compile(r"\w+")


def fold_numbers(examples: Examples, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each row, 0 to ``folds`` - 1; each fold has about as many groups.

    Texts of equal words, or that share a rare run of six, are one group: replies quote what they
    answer, and a fold must not be judged on what it was trained on.  Any other row is a group of
    its own.  Raises ValueError where there are fewer groups than folds.
    """
    texts = [one for one in examples.inputs if isinstance(one, str)]
    groups = text_groups(texts) if texts else np.arange(len(examples))
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < folds:
        raise ValueError(
            f"{folds} folds: the training rows make {len(names)} groups without near copies, "
            "so train.calibration must be at most that"
        )
    turns = np.arange(len(names)) % folds
    shuffled = np.random.default_rng(seed).permutation(turns)
    return shuffled[members].astype(np.int64)


def text_groups(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for each text, equal for texts that are linked by shared runs of words."""
    holders: dict[str, set[int]] = defaultdict(set)
    copies: dict[str, int] = {}
    parents = list(range(len(texts)))
    for row, text in enumerate(texts):
        words = _WORD.findall(text.lower())
        # However short and frequent: a text without words is compared as it stands.
        parents[row] = copies.setdefault(" ".join(words) or text, row)
        for start in range(len(words) - RUN + 1):
            holders[" ".join(words[start : start + RUN])].add(row)
    for rows in holders.values():
        if 1 < len(rows) <= COMMON:
            first, *others = sorted(rows)
            for other in others:
                parents[_root(parents, other)] = _root(parents, first)
    return np.asarray([_root(parents, row) for row in range(len(texts))], np.int64)


def _root(parents: list[int], row: int) -> int:
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row
