"""Examples, data sets and what makes them complete."""

from __future__ import annotations

import numpy as np
import pytest

from training.data import DataError, DataSet, Examples, make_dataset


def texts(labels: list[int], *, prefix: str = "text") -> Examples:
    """Return texts that all differ."""
    return Examples(tuple(f"{prefix} {i}" for i in range(len(labels))), np.array(labels, np.int64))


def series(*shapes: tuple[int, ...], fill: float = 0.0) -> Examples:
    """Return a series of each shape, labelled 0, 1, 0, 1 and so on."""
    return Examples(
        tuple(np.full(shape, fill, np.float32) for shape in shapes),
        np.arange(len(shapes), dtype=np.int64) % 2,
    )


def pictures(*shape: int) -> Examples:
    """Return black pictures, labelled 0, 1, 0, 1 and so on."""
    return Examples(np.zeros(shape, np.uint8), np.arange(shape[0], dtype=np.int64) % 2)


def make(train: Examples, test: Examples, classes: tuple[str, ...] = ("a", "b")) -> DataSet:
    """Return a data set of these splits."""
    return make_dataset("mine", classes, train, test, source="here", license="mine")


def test_kind_follows_from_the_inputs() -> None:
    """Arrays of pictures, series and texts are told apart."""
    assert make(pictures(2, 3, 3, 1), pictures(1, 3, 3, 1)).kind == "image"
    assert make(series((2, 1), (3, 1)), series((9, 1))).kind == "sequence"
    assert make(texts([0, 1]), texts([0])).kind == "text"


def test_take_keeps_order_and_labels() -> None:
    """Taken examples come in the order that was asked for."""
    taken = texts([0, 1, 1]).take([2, 0])
    assert taken.inputs == ("text 2", "text 0")
    assert taken.labels.tolist() == [1, 0]
    assert pictures(4, 2, 2, 1).take([1]).labels.tolist() == [1]


def test_inputs_and_labels_must_be_as_many() -> None:
    """A text without a label is refused."""
    with pytest.raises(DataError, match="1 inputs with 2 labels"):
        Examples(("one",), np.array([0, 1]))


def test_fingerprint_is_of_the_content_alone() -> None:
    """The name does not change the fingerprint; an input, a label or a class does."""
    same = make(texts([0, 1]), texts([0]))
    renamed = make_dataset("b", ("a", "b"), texts([0, 1]), texts([0]), source="", license="")
    others = [
        make(texts([1, 0]), texts([0])),
        make(texts([0, 1], prefix="txt"), texts([0])),
        make(texts([0, 1]), texts([0]), ("a", "c")),
    ]
    assert same.fingerprint == renamed.fingerprint
    assert len({same.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_fingerprint_tells_shapes_apart() -> None:
    """The same numbers in another shape are another data set."""
    first = make(series((2, 3), (2, 3)), series((2, 3)))
    second = make(series((3, 2), (3, 2)), series((3, 2)))
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("train", "test", "classes", "text"),
    [
        (texts([0, 0]), texts([0]), ("a",), "1 class .*at least two"),
        (texts([0, 1]), texts([0]), ("a", "a"), "must differ"),
        (texts([0, 1]), texts([0]), ("a", " "), "not be empty"),
        (texts([0, 0]), texts([1]), ("a", "b"), "class 'b' has no training example"),
        (texts([0, 1]), texts([]), ("a", "b"), "mine: test: there is no example"),
        (texts([0, 2]), texts([0]), ("a", "b"), "label 2 at record 1: must be 0..1"),
        (texts([0, 1]), texts([-1]), ("a", "b"), "test: label -1 at record 0"),
        (texts([0, 1]), series((2, 1)), ("a", "b"), "text and sequence"),
        (pictures(2, 3, 3, 1), pictures(2, 3, 4, 1), ("a", "b"), "shapes"),
        (pictures(2, 3, 3), pictures(2, 3, 3), ("a", "b"), "shapes"),
        (series((2, 1), (3, 2)), series((2, 1)), ("a", "b"), "train record 1: 2 channels"),
        (series((2, 1), (3, 1)), series((2, 2)), ("a", "b"), "test record 0: 2 channels"),
        (series((2, 1), (0, 1)), series((2, 1)), ("a", "b"), r"record 1: a series of shape \[0"),
        (series((2, 1), (2,)), series((2, 1)), ("a", "b"), r"record 1: a series of shape \[2\]"),
        (series((2, 1), (2, 1), fill=np.nan), series((2, 1)), ("a", "b"), "nan at step 0, chann"),
        (series((2, 1), (2, 1)), series((2, 1), fill=-np.inf), ("a", "b"), "test record 0: -inf"),
    ],
)
def test_incomplete_data_are_refused(
    train: Examples, test: Examples, classes: tuple[str, ...], text: str
) -> None:
    """What no classifier can be trained on is refused with its place."""
    with pytest.raises(DataError, match=text):
        make(train, test, classes)
