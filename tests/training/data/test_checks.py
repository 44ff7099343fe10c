"""Warnings about a data set."""

from __future__ import annotations

import numpy as np

from training.data import DataSet, Examples, check, make_dataset


def dataset(train: str, test: str, /, **texts: dict[int, str]) -> DataSet:
    """Return a data set whose labels are these letters, its texts all different or as given."""

    def examples(part: str, letters: str) -> Examples:
        chosen = texts.get(part, {})
        inputs = tuple(chosen.get(i, f"{part} {i}") for i in range(len(letters)))
        return Examples(inputs, np.array(["ab".index(c) for c in letters], np.int64))

    return make_dataset(
        "mine", ("a", "b"), examples("train", train), examples("test", test), source="", license=""
    )


def test_a_sound_data_set_has_no_warnings() -> None:
    """Nothing is said without a reason."""
    assert check(dataset("ab" * 10, "ab" * 5)) == []


def test_examples_in_both_splits_are_counted() -> None:
    """A test text that was trained on is a leak."""
    leaking = dataset("ab" * 10, "ab" * 5, test={0: "train 0", 1: "train 1"})
    assert check(leaking) == ["2 of 10 test examples are also in the training split"]


def test_repeated_examples_are_counted() -> None:
    """The same text twice in one split is said with the split."""
    repeated = dataset("ab" * 10, "ab" * 5, train={2: "train 0"})
    assert check(repeated) == ["1 examples of the train split are there before"]


def test_contradictions_are_counted() -> None:
    """The same text with two labels cannot be learned."""
    torn = dataset("ab" * 10, "ab" * 5, test={1: "test 0"})
    assert "1 inputs are there with different labels" in check(torn)


def test_small_uneven_and_shifted_classes_are_named() -> None:
    """Counts and shares are in the text."""
    found = check(dataset("a" * 40 + "b" * 2, "b" * 3))
    assert "class 'a' has no test example" in found
    assert "class 'b' is 4.8% of the training and 100.0% of the test split" in found
    assert "class 'b' has 2 training examples" in found
    assert "the largest class has 40 training examples, the smallest 2" in found


def test_longer_test_series_are_told() -> None:
    """A model with a fixed length would fail on them."""

    def series(length: int) -> Examples:
        inputs = tuple(np.full((length, 1), length + i, np.float32) for i in range(20))
        return Examples(inputs, np.arange(20, dtype=np.int64) % 2)

    def found(train: int, test: int) -> list[str]:
        return check(
            make_dataset("x", ("a", "b"), series(train), series(test), source="", license="")
        )

    assert found(3, 2) == []
    assert found(2, 300) == ["the longest test series has 300 steps, the longest in training 2"]
