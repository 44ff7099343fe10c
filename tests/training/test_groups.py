"""What `training.groups` promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from training.data import Examples
from training.groups import COMMON, fold_numbers, text_groups

QUOTED = "please send me the report of last week today"


def texts(*values: str) -> Examples:
    """Return texts, all of one class."""
    return Examples(values, np.zeros(len(values), np.int64))


def test_replies_are_grouped_with_what_they_quote() -> None:
    """A shared run of six words links texts, whatever their case and signs; five do not."""
    groups = text_groups(
        [
            QUOTED,
            f"Yes! > {QUOTED.upper()}",
            "the report of last week today is not done, says the boss of the boss",
            "the boss of the boss is not at home",
            "please send me the other report",
        ]
    )
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] != groups[2]
    assert groups[4] not in groups[:4].tolist()


def test_a_chain_of_quotes_is_one_group() -> None:
    """Who shares a run with one member is with all of them."""
    chain = ["a b c d e f", "a b c d e f g h i j k l", "g h i j k l"]
    assert len(set(text_groups(chain).tolist())) == 1


def test_a_run_that_many_texts_share_links_none() -> None:
    """A footer under every mail says nothing of where it comes from."""
    footer = "you get this mail because you asked for it"
    few = text_groups([f"{number} {footer}" for number in range(COMMON)])
    many = text_groups([f"{number} {footer}" for number in range(COMMON + 1)])
    assert len(set(few.tolist())) == 1
    assert len(set(many.tolist())) == COMMON + 1


@pytest.mark.parametrize("text", ["win now", "!!!", QUOTED])
def test_equal_texts_are_one_group(text: str) -> None:
    """However short they are, and however many."""
    groups = text_groups([text] * (COMMON + 5) + ["another", "?!"])
    assert len(set(groups.tolist())) == 3


@given(rows=st.integers(2, 60), folds=st.integers(2, 5), seed=st.integers(0, 9))
def test_no_group_is_divided_and_no_fold_is_empty(rows: int, folds: int, seed: int) -> None:
    """Folds have about as many groups, whatever the seed, and the same seed gives the same."""
    groups = [f"only {row // 2}" for row in range(rows)]
    assume(len(set(groups)) >= folds)
    numbers = fold_numbers(texts(*groups), folds, seed)
    assert np.array_equal(numbers, fold_numbers(texts(*groups), folds, seed))
    of_group = dict(zip(groups, numbers.tolist(), strict=True))
    assert [of_group[group] for group in groups] == numbers.tolist()
    sizes = np.bincount(list(of_group.values()), minlength=folds)
    assert sizes.max() - sizes.min() <= 1


def test_pictures_and_series_are_groups_of_their_own() -> None:
    """Only texts are looked into."""
    pictures = Examples(np.zeros((10, 2, 2, 1), np.uint8), np.zeros(10, np.int64))
    assert np.bincount(fold_numbers(pictures, 5, 0)).tolist() == [2] * 5


def test_another_seed_draws_other_folds() -> None:
    """The seed decides which rows are held out together."""
    rows = texts(*(str(number) for number in range(40)))
    assert not np.array_equal(fold_numbers(rows, 4, 0), fold_numbers(rows, 4, 1))


def test_more_folds_than_groups_are_refused() -> None:
    """A fold without rows could not be judged, and one with all of them not be trained."""
    with pytest.raises(ValueError, match=r"3 folds: .* make 2 groups .* train\.calibration"):
        fold_numbers(texts("same", "same", "other"), 3, 0)
