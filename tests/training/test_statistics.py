"""What `training.statistics` promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from training.statistics import calibration_error, confusion_matrix, score, wilson

CLASSES = ("a", "b", "c")
PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


def test_wilson_gives_the_textbook_interval() -> None:
    """8 of 10 lie between 49.0 % and 94.3 %."""
    interval = wilson(8, 10)
    assert interval.value == pytest.approx(0.8)
    assert (interval.low, interval.high) == pytest.approx((0.490162, 0.943318), abs=1e-6)


def test_wilson_at_the_ends_is_one_sided() -> None:
    """No success has the lower bound 0, nothing but successes the upper bound 1."""
    assert (wilson(0, 10).low, wilson(0, 10).high) == pytest.approx((0.0, 0.277533), abs=1e-6)
    assert (wilson(10, 10).low, wilson(10, 10).high) == pytest.approx((0.722467, 1.0), abs=1e-6)


def test_wilson_of_nothing_says_nothing() -> None:
    """Without a trial the interval is everything."""
    interval = wilson(0, 0)
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 1.0)


@given(st.integers(1, 5000), st.data())
def test_wilson_holds_its_share(trials: int, data: st.DataObject) -> None:
    """Every interval lies in [0, 1] and holds the share itself."""
    interval = wilson(data.draw(st.integers(0, trials)), trials)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_the_confusion_matrix_counts_true_by_answered() -> None:
    """A row is a true class, a column an answered one."""
    counts = confusion_matrix(np.asarray([0, 0, 1]), np.asarray([0, 1, 1]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("truth", "answered", "text"),
    [
        ([0, 3], [0, 0], r"true labels 0\.\.3: must be 0\.\.2"),
        ([0, 0], [-1, 0], r"answered labels -1\.\.0"),
        ([0], [0, 0], "must be equal"),
        ([], [], "must be equal"),
    ],
)
def test_labels_outside_the_classes_are_refused(
    truth: list[int], answered: list[int], text: str
) -> None:
    """The error names which labels, and what they may be."""
    with pytest.raises(ValueError, match=text):
        confusion_matrix(np.asarray(truth, int), np.asarray(answered, int), 3)


def test_scores_of_a_small_case_are_the_hand_computed_ones() -> None:
    """Seven rows, five right: the figures are those worked out by hand."""
    scores = score(np.asarray([0, 0, 1, 1, 2, 2, 2]), np.asarray([0, 1, 1, 1, 2, 2, 0]), CLASSES)
    assert scores.accuracy.value == pytest.approx(5 / 7)
    assert [one.precision.value for one in scores.classes] == pytest.approx([1 / 2, 2 / 3, 1])
    assert [one.recall.value for one in scores.classes] == pytest.approx([1 / 2, 1, 2 / 3])
    assert [one.f1.value for one in scores.classes] == pytest.approx([0.5, 0.8, 0.8])
    assert scores.f1.value == pytest.approx(0.7)
    assert [one.support for one in scores.classes] == [2, 2, 3]


@given(PAIRS)
def test_scores_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    """Precision, recall and F1 of every class, and their means, are the usual ones."""
    truth, answered = np.asarray(pairs).T
    ours = score(truth, answered, CLASSES, resamples=8)
    theirs = precision_recall_fscore_support(
        truth, answered, labels=[0, 1, 2], zero_division=0.0, average=None
    )
    for name, values in zip(("precision", "recall", "f1"), theirs[:3], strict=True):
        found = [getattr(one, name).value for one in ours.classes]
        assert found == pytest.approx(values.tolist())
        assert getattr(ours, name).value == pytest.approx(values.mean())


@given(PAIRS)
def test_every_interval_holds_its_figure(pairs: list[tuple[int, int]]) -> None:
    """A figure never lies outside its own bounds, however few the rows."""
    truth, answered = np.asarray(pairs).T
    scores = score(truth, answered, CLASSES, resamples=16)
    intervals = [scores.accuracy, scores.precision, scores.recall, scores.f1]
    intervals += [i for one in scores.classes for i in (one.precision, one.recall, one.f1)]
    for interval in intervals:
        assert 0 <= interval.low <= interval.value <= interval.high <= 1


def test_the_bootstrap_is_the_same_every_time_and_of_the_right_width() -> None:
    """For accuracy-like figures it gives what Wilson gives, within a few thousandths."""
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 1000)
    answered = np.where(random.random(1000) < 0.9, truth, 1 - truth)
    first, second = (score(truth, answered, ("a", "b")) for _ in range(2))
    assert first.f1 == second.f1
    assert first.f1.high - first.f1.low == pytest.approx(
        first.accuracy.high - first.accuracy.low, abs=0.004
    )


def test_answers_that_are_as_sure_as_they_are_right_have_no_calibration_error() -> None:
    """Three of four right at 0.75 is perfect; all wrong at 0.75 is 0.75 off."""
    sure = np.tile([0.75, 0.25], (4, 1))
    assert calibration_error(sure, np.asarray([0, 0, 0, 1])) == pytest.approx(0.0)
    assert calibration_error(sure, np.asarray([1, 1, 1, 1])) == pytest.approx(0.75)


def test_full_confidence_falls_into_the_last_bin() -> None:
    """A probability of exactly 1 is counted, not lost beyond the last edge."""
    assert calibration_error(np.asarray([[1.0, 0.0]]), np.asarray([1])) == pytest.approx(1.0)
