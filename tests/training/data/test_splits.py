"""Splits by the seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import DataError, Examples, split
from training.data.splits import at_most


def numbered(labels: list[int]) -> Examples:
    """Return texts that say their place."""
    return Examples(tuple(map(str, range(len(labels)))), np.array(labels, np.int64))


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 2**31),
)
def test_every_example_is_in_one_part(labels: list[int], fraction: float, seed: int) -> None:
    """Nothing is lost or doubled, and every class with two examples is in both parts."""
    examples = numbered(labels)
    counts = np.bincount(examples.labels)
    if counts.max() < 2:
        with pytest.raises(DataError, match="none can be held back"):
            split(examples, fraction, seed)
        return
    kept, held = split(examples, fraction, seed)
    places = [int(str(text)) for text in (*kept.inputs, *held.inputs)]
    assert sorted(places) == list(range(len(labels)))
    for label in np.flatnonzero(counts >= 2):
        assert label in kept.labels
        assert label in held.labels
    for label in np.flatnonzero(counts == 1):
        assert label in kept.labels


def test_seed_decides_the_split() -> None:
    """The same seed gives the same parts, another seed gives others."""
    examples = numbered([0, 1] * 50)
    first, again, other = (split(examples, 0.2, seed)[1].inputs for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_shares_are_those_of_the_whole() -> None:
    """Of each class the same fraction is held back."""
    _, held = split(numbered([0] * 90 + [1] * 10), 0.2, 0)
    assert np.bincount(held.labels).tolist() == [18, 2]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_fraction_must_leave_both_parts(fraction: float) -> None:
    """A fraction outside 0..1 is refused with its value."""
    with pytest.raises(DataError, match="must be between 0 and 1"):
        split(numbered([0, 0, 1, 1]), fraction, 0)


def test_limit_keeps_shares_and_every_class() -> None:
    """About as many examples are kept as asked for, one of a rare class among them."""
    examples = numbered([0] * 80 + [1] * 19 + [2])
    kept = at_most(examples, 20, 0)
    assert np.bincount(kept.labels).tolist() == [16, 3, 1]
    assert at_most(examples, 0, 0) is examples
    assert at_most(examples, 100, 0) is examples
