"""What is suspicious in a data set, in sentences; none of it stops a training run."""

from __future__ import annotations

import hashlib

import numpy as np

from training.data.dataset import DataSet, Examples, raw_bytes

FEW = 10
UNEVEN = 10
SHIFT = 2


def check(dataset: DataSet) -> list[str]:
    """Return warnings about a data set, an empty list for one without any.

    They are: equal inputs in both splits or twice in one, equal inputs with different labels,
    classes that are missing in the test split, small or uneven, class shares that differ between
    the splits, and test series longer than any in training.
    """
    return [*_duplicates(dataset), *_classes(dataset), *_lengths(dataset)]


def _duplicates(dataset: DataSet) -> list[str]:
    train, test = _digests(dataset.train), _digests(dataset.test)
    known = set(train)
    shared = sum(digest in known for digest in test)
    twice = {"train": len(train) - len(known), "test": len(test) - len(set(test))}
    found = []
    if shared:
        found.append(f"{shared} of {len(test)} test examples are also in the training split")
    found += [
        f"{n} examples of the {part} split are there before" for part, n in twice.items() if n
    ]
    labelled: dict[bytes, set[int]] = {}
    labels = np.concatenate([dataset.train.labels, dataset.test.labels]).tolist()
    for digest, label in zip(train + test, labels, strict=True):
        labelled.setdefault(digest, set()).add(label)
    torn = sum(len(labels) > 1 for labels in labelled.values())
    if torn:
        found.append(f"{torn} inputs are there with different labels")
    return found


def _classes(dataset: DataSet) -> list[str]:
    train, test = (_counts(part, len(dataset.classes)) for part in (dataset.train, dataset.test))
    found = []
    for i, label in enumerate(dataset.classes):
        share, test_share = train[i] / train.sum(), test[i] / test.sum()
        if not test[i]:
            found.append(f"class '{label}' has no test example")
        elif max(share, test_share) > SHIFT * min(share, test_share):
            shares = f"{share:.1%} of the training and {test_share:.1%} of the test split"
            found.append(f"class '{label}' is {shares}")
        if train[i] < FEW:
            found.append(f"class '{label}' has {train[i]} training examples")
    if train.max() > UNEVEN * train.min():
        found.append(f"the largest class has {train.max()} training examples, the smallest "
                     f"{train.min()}")  # fmt: skip
    return found


def _lengths(dataset: DataSet) -> list[str]:
    if dataset.kind != "sequence":
        return []
    train, test = (max(map(len, part.inputs)) for part in (dataset.train, dataset.test))
    if test <= train:
        return []
    return [f"the longest test series has {test} steps, the longest in training {train}"]


def _digests(examples: Examples) -> list[bytes]:
    return [hashlib.sha256(raw_bytes(example)).digest() for example in examples.inputs]


def _counts(examples: Examples, classes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(examples.labels, minlength=classes)
