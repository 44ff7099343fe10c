"""What `training.baselines` promises: a bar for the network, whatever the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.baselines import MAX_ROWS, run_baselines
from training.data import DataSet, Examples, make_dataset
from training.task import make_task

from .tiny import TRAIN, tiny_recipe


def texts(train: list[str], test: list[str]) -> DataSet:
    """Return texts whose class is 1 where they begin with "b"."""
    splits = [
        Examples(tuple(part), np.array([text.startswith("b") for text in part], np.int64))
        for part in (train, test)
    ]
    return make_dataset("texts", ("a", "b"), splits[0], splits[1], source="", license="")


@pytest.mark.parametrize(
    ("family", "methods"),
    [
        ("cnn", ["logistic regression on pixels", "kernel SVM (RBF) on pixels"]),
        (
            "rnn",
            [
                "1-nearest neighbour, padded",
                "logistic regression, padded",
                "logistic regression on summaries",
            ],
        ),
        ("attention", ["TF-IDF with balanced logistic regression", "TF-IDF with naive Bayes"]),
    ],
)
def test_each_kind_of_data_has_its_methods(
    roots: dict[str, Path], family: str, methods: list[str]
) -> None:
    """They learn what is easy to learn, and each is announced before it begins."""
    dataset = make_task(tiny_recipe(family, roots[family])).dataset
    said: list[str] = []
    found = run_baselines(dataset, seed=0, started=said.append)
    assert [one.name for one in found] == said == methods
    for one in found:
        assert one.rows == 2 * TRAIN
        assert 0.75 <= one.accuracy <= 1
        assert 0.7 <= one.f1 <= 1
        assert one.as_json()["train_rows"] == 2 * TRAIN


def test_figures_are_those_of_the_test_split() -> None:
    """One of four test texts says the opposite of what it is."""
    train = [f"{letter}ad {letter}ig" for letter in "ab" for _ in range(5)]
    dataset = texts(train, ["aad", "aig", "big", "b aad aig"])
    for one in run_baselines(dataset, seed=0):
        assert one.accuracy == 0.75
        # Of class a all are found, of 3 answers 2 are right; of class b half, and all are right.
        assert one.f1 == pytest.approx((0.8 + 2 / 3) / 2)


def test_longer_test_series_are_cut() -> None:
    """A method of fixed width reads what it was trained on; a series of one step is one too."""
    lengths = [1, 2, 3, 4]
    train = Examples(
        tuple(np.full((length, 1), length % 2, np.float32) for length in lengths),
        np.array([1, 0, 1, 0], np.int64),
    )
    test = Examples((np.ones((9, 1), np.float32),), np.array([1], np.int64))
    dataset = make_dataset("series", ("even", "odd"), train, test, source="", license="")
    assert [one.accuracy for one in run_baselines(dataset, seed=0)][:2] == [1, 1]


def test_at_most_so_many_rows_are_trained_on() -> None:
    """A kernel machine on more would take minutes."""
    train = [f"{letter}ad {number}" for letter in "ab" for number in range(MAX_ROWS // 2 + 1)]
    for one in run_baselines(texts(train, ["aad", "bad"]), seed=0):
        assert (one.rows, one.accuracy) == (MAX_ROWS, 1)


def test_a_method_that_cannot_take_the_data_is_left_out() -> None:
    """Texts without a word of two letters end no run."""
    said: list[str] = []
    assert run_baselines(texts(["a", "b"], ["a"]), seed=0, started=said.append) == []
    assert [text for text in said if "left out: empty vocabulary" in text] == said[1::2]


def test_rows_of_one_class_have_no_baseline() -> None:
    """What was drawn of a large split may hold a single class, from which nothing is learnt."""
    train = ["a"] * MAX_ROWS * 3 + ["b"]
    assert run_baselines(texts(train, ["a"]), seed=0) == []
