"""What scikit-learn's classic methods reach on the same split: the bar for a network."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from training.data.dataset import DataSet

# A kernel machine's cost goes with the square of its rows; more would take minutes.
MAX_ROWS = 5000
Array = NDArray[Any]
# Pictures, series or texts of one split, a row each.
Inputs = Sequence[Any] | Array
# A name, the features of the two splits, and a fresh estimator.
Method = tuple[str, Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Baseline:
    """One method's figures on the test split, with what it was trained on and how long it took."""

    name: str
    accuracy: float
    f1: float
    rows: int
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return plain values for ``metrics.json``."""
        return {
            "name": self.name,
            "accuracy": round(self.accuracy, 6),
            "f1_macro": round(self.f1, 6),
            "train_rows": self.rows,
            "seconds": round(self.seconds, 2),
        }


def run_baselines(
    dataset: DataSet, *, seed: int, started: Callable[[str], None] = lambda _: None
) -> list[Baseline]:
    """Train and test the methods for this kind of data on at most 5,000 rows of the train split.

    A method that cannot take the data is left out, which ``started`` hears.
    """
    labels = np.asarray(dataset.train.labels)
    rows = np.arange(len(labels))
    if len(rows) > MAX_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False))
    if len(np.unique(labels[rows])) < 2:
        return []
    train = [dataset.train.inputs[i] for i in rows]
    methods = {"image": _images, "sequence": _series, "text": _texts}[dataset.kind]
    truth = np.asarray(dataset.test.labels)
    found = []
    for method in methods(train, dataset.test.inputs):
        started(method[0])
        try:
            found.append(_run(method, labels[rows], truth))
        except ValueError as error:
            # Texts without a word of two letters, say; the network's run must not end at that.
            started(f"{method[0]}: left out: {error}")
    return found


def _run(method: Method, labels: Array, truth: Array) -> Baseline:
    name, features, test_features, estimator = method
    begun = time.perf_counter()
    with warnings.catch_warnings():
        # A baseline that stops at its limit of steps is still a baseline.
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(features, labels)
        answered = estimator.predict(test_features)
    seconds = time.perf_counter() - begun
    accuracy = float(np.mean(answered == truth))
    f1 = float(f1_score(truth, answered, average="macro", zero_division=0))
    return Baseline(name, accuracy, f1, len(labels), seconds)


def _images(train: Inputs, test: Inputs) -> Iterator[Method]:
    pixels, test_pixels = _pixels(train), _pixels(test)
    yield (
        "logistic regression on pixels",
        pixels,
        test_pixels,
        LogisticRegression(C=0.1, max_iter=100, tol=1e-3),
    )
    yield "kernel SVM (RBF) on pixels", pixels, test_pixels, SVC(C=10)


def _pixels(pictures: Inputs) -> Array:
    return np.stack([np.asarray(picture) for picture in pictures]).reshape(len(pictures), -1) / 255


def _series(train: Inputs, test: Inputs) -> Iterator[Method]:
    longest = max(len(series) for series in train)
    padded, test_padded = _padded(train, longest), _padded(test, longest)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    yield "1-nearest neighbour, padded", padded, test_padded, KNeighborsClassifier(1)
    yield "logistic regression, padded", padded, test_padded, linear
    yield (
        "logistic regression on summaries",
        _summaries(train),
        _summaries(test),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    )


def _padded(series: Inputs, longest: int) -> Array:
    """Return [rows, longest * channels]; what is longer than the longest of training is cut."""
    padded = np.zeros((len(series), longest, np.shape(series[0])[1]))
    for row, one in enumerate(series):
        padded[row, : len(one)] = one[:longest]
    return padded.reshape(len(series), -1)


def _summaries(series: Inputs) -> Array:
    """Return hand-made features: moments, ends, extremes and movement a channel, and the length."""
    return np.stack([_summary(np.asarray(one, np.float64)) for one in series])


def _summary(one: Array) -> Array:
    movement = np.abs(np.diff(one, axis=0)).mean(axis=0) if len(one) > 1 else np.zeros(one.shape[1])
    thirds = [part.mean(axis=0) for part in np.array_split(one, 3) if len(part)]
    thirds += [thirds[-1]] * (3 - len(thirds))
    moments = (one.mean(axis=0), one.std(axis=0), one.min(axis=0), one.max(axis=0))
    return np.concatenate([*moments, one[0], one[-1], movement, *thirds, [len(one)]])


def _texts(train: Inputs, test: Inputs) -> Iterator[Method]:
    balanced = LogisticRegression(class_weight="balanced", max_iter=1000)
    words = make_pipeline(TfidfVectorizer(min_df=_twice(train), sublinear_tf=True), balanced)
    yield "TF-IDF with balanced logistic regression", train, test, words
    bayes = make_pipeline(TfidfVectorizer(min_df=_twice(train)), MultinomialNB())
    yield "TF-IDF with naive Bayes", train, test, bayes


def _twice(texts: Inputs) -> int:
    """Words in one text alone only add noise, but a handful of texts may share none."""
    return 2 if len(texts) >= 100 else 1
