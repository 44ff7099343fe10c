"""Figures of a classifier from its answers alone, with their 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

Z95 = 1.959963984540054
BINS = 15


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """Return the three numbers, rounded to what 95 % of anything can mean."""
        return {
            "value": round(self.value, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
        }


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class: precision, recall, F1, and how many rows are truly of it."""

    label: str
    precision: Interval
    recall: Interval
    f1: Interval
    support: int


@dataclass(frozen=True, slots=True)
class Scores:
    """A classifier on one split; ``confusion`` counts [true class, answered class]."""

    rows: int
    accuracy: Interval
    precision: Interval
    recall: Interval
    f1: Interval
    classes: tuple[ClassScores, ...]
    confusion: NDArray[np.int64]


def score(
    truth: Labels, answered: Labels, classes: tuple[str, ...], *, resamples: int = 1000
) -> Scores:
    """Compare answers with the truth, both as class indices.

    Proportions (accuracy, precision, recall) get Wilson's interval; F1 and the macro means get the
    2.5 and 97.5 % quantiles of a bootstrap over rows with a fixed seed.
    """
    confusion = confusion_matrix(truth, answered, len(classes))
    draws = _resample(confusion, resamples)
    # [3, resamples, classes] of precision, recall and F1
    resampled = np.stack(_per_class(draws))
    per_class = np.stack(_per_class(confusion))
    means = [_quantiles(float(per_class[i].mean()), resampled[i].mean(axis=1)) for i in range(3)]
    each = tuple(
        ClassScores(
            label=label,
            precision=wilson(int(confusion[i, i]), int(confusion[:, i].sum())),
            recall=wilson(int(confusion[i, i]), int(confusion[i].sum())),
            f1=_quantiles(float(per_class[2, i]), resampled[2, :, i]),
            support=int(confusion[i].sum()),
        )
        for i, label in enumerate(classes)
    )
    accuracy = wilson(int(np.trace(confusion)), len(truth))
    return Scores(len(truth), accuracy, means[0], means[1], means[2], each, confusion)


def confusion_matrix(truth: Labels, answered: Labels, classes: int) -> NDArray[np.int64]:
    """Return the counts [true class, answered class]; raise ValueError for a label outside."""
    if truth.shape != answered.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(f"{truth.shape} true labels for {answered.shape} answers: must be equal")
    for name, labels in (("true", truth), ("answered", answered)):
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"{name} labels {labels.min()}..{labels.max()}: must be 0..{classes - 1}"
            )
    counts = np.bincount(truth * classes + answered, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def wilson(successes: int, trials: int) -> Interval:
    """Return a proportion with Wilson's score interval (Wilson, 1927); 0 of 0 is 0 in [0, 1]."""
    if not trials:
        return Interval(0.0, 0.0, 1.0)
    share = successes / trials
    spread = Z95**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    # At the ends the bound is exact; rounding must not put the figure outside its interval.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(share, low, high)


def calibration_error(probabilities: Floats, truth: Labels, bins: int = BINS) -> float:
    """Return the expected calibration error (Guo et al., 2017) over equal bins of confidence.

    It is the mean gap between how sure the answers are and how often they are right; 0 is best.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def _resample(confusion: NDArray[np.int64], resamples: int) -> NDArray[np.int64]:
    """Draw confusion matrices [resamples, true, answered].

    Drawing rows with replacement and counting them is a multinomial draw of the counts.
    """
    random = np.random.default_rng(0)
    total = int(confusion.sum())
    drawn = random.multinomial(total, confusion.reshape(-1) / total, resamples)
    return drawn.reshape(resamples, *confusion.shape).astype(np.int64)


def _per_class(confusion: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F1 [..., classes] of counts [..., true, answered]; 0/0 is 0."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    answered = confusion.sum(axis=-2)
    support = confusion.sum(axis=-1)
    return _ratio(hits, answered), _ratio(hits, support), _ratio(2 * hits, answered + support)


def _ratio(above: Floats, below: NDArray[Any]) -> Floats:
    shares: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return shares


def _quantiles(value: float, draws: Floats) -> Interval:
    low, high = np.quantile(draws, (0.025, 0.975)).tolist()
    # A figure at the edge of what can be drawn still lies inside its own interval.
    return Interval(value, min(low, value), max(high, value))
