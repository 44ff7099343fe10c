"""The best classes of an output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.tensors import BFLOAT16, DATATYPES
from service.web.classification import classes
from tests.support.strategies import tensors

NUMERIC = [name for name in DATATYPES if name not in ("BYTES", "BOOL")]


def test_rows_are_sorted_each_for_itself() -> None:
    """Value, index and label, the highest first, as many as asked for."""
    scores = np.asarray([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]], np.float32)
    assert classes(scores, 2, ["a", "b", "c"], "y").tolist() == [
        ["0.700000:1:b", "0.200000:2:c"],
        ["0.500000:0:a", "0.400000:2:c"],
    ]


def test_without_labels_and_beyond_the_classes() -> None:
    """More than there are is all that there are; without labels the index is the last word."""
    assert classes(np.asarray([[5, 4]]), 9, None, "y").tolist() == [["5:0", "4:1"]]
    assert classes(np.asarray([[5, 4]]), 9, ["a"], "y").tolist() == [["5:0:a", "4:1"]]


def test_shapes() -> None:
    """The first of several axes is rows, all others together are classes."""
    assert classes(np.zeros((2, 3, 4)), 5, None, "y").shape == (2, 5)
    assert classes(np.zeros(4), 3, None, "y").shape == (3,)
    assert classes(np.zeros(()), 3, None, "y").tolist() == ["0.000000:0"]
    assert classes(np.zeros((0, 4)), 3, None, "y").shape == (0, 3)
    assert classes(np.zeros((2, 0)), 3, None, "y").shape == (2, 0)


def test_what_is_not_a_number_comes_last() -> None:
    """Equal elements keep their order, infinities have their place, NaN has none."""
    scores = np.asarray([np.nan, 1, np.inf, 1, -np.inf])
    texts = classes(scores, 5, None, "y").tolist()
    assert texts == ["inf:2", "1.000000:1", "1.000000:3", "-inf:4", "nan:0"]


def test_extremes_of_integers_and_booleans() -> None:
    """No integer is turned round on the way to its place."""
    assert classes(np.asarray([0, 2**64 - 1], np.uint64), 1, None, "y").tolist() == [
        f"{2**64 - 1}:1"
    ]
    assert classes(np.asarray([0, -(2**63), 5]), 3, None, "y").tolist() == [
        "5:2",
        "0:0",
        f"{-(2**63)}:1",
    ]
    assert classes(np.asarray([False, True]), 2, None, "y").tolist() == ["1:1", "0:0"]
    assert classes(np.asarray([0.5, 1], BFLOAT16), 1, None, "y").tolist() == ["1.000000:1"]


def test_texts_have_no_best() -> None:
    """BYTES are refused by the output's name."""
    with pytest.raises(InvalidRequest, match="output 'y': BYTES"):
        classes(np.asarray(["a"], object), 1, None, "output 'y'")


@given(st.data(), st.sampled_from(NUMERIC))
def test_the_order_is_that_of_the_values(data: st.DataObject, datatype: str) -> None:
    """For every type the indices name the elements from high to low."""
    value = data.draw(tensors(datatype)).reshape(-1)
    indices = [int(text.split(":")[1]) for text in classes(value, value.size, None, "y").tolist()]
    assert sorted(indices) == list(range(value.size))
    seen = [element for element in value[indices].tolist() if element == element]  # noqa: PLR0124 - NaN
    assert seen == sorted(seen, reverse=True)
