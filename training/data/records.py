"""Users' own examples, one by one with their place, made into a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataError, DataSet, Examples, Labels, make_dataset
from training.data.spec import DataSpec
from training.data.splits import split

SPLITS = ("train", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One example; ``where`` names its file and record, ``split`` is train, test or empty."""

    where: str
    label: str
    split: str
    value: NDArray[np.float32] | str


def assemble(records: Sequence[Record], spec: DataSpec, *, source: str, license: str) -> DataSet:  # noqa: A002 - the field is called so
    """Return the data set of these series or texts, split as they say or by the seed."""
    name = spec.name or source
    classes, labels = classify(records, spec.classes)
    # All values are of one kind; the type checker cannot see it in a tuple.
    examples = Examples(tuple(record.value for record in records), labels)  # type: ignore[arg-type]
    train, test = divide(examples, [record.split for record in records], spec)
    return make_dataset(name, classes, train, test, source=source, license=license)


def classify(
    records: Sequence[Record], classes: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], Labels]:
    """Return the classes and each record's index among them; raise DataError for a label outside.

    Without given classes they are the labels, sorted, numbers by their size; where the records say
    which of them are for training, those of the training records.
    """
    training = {record.label for record in records if record.split != "test"}
    known = classes or tuple(sorted(training, key=_order))
    index = {label: i for i, label in enumerate(known)}
    for record in records:
        if record.label not in index:
            whose = "given" if classes else "training"
            raise DataError(
                f"{record.where}: label '{record.label}' is not among the {whose} classes "
                f"{list(known)[:20]}"
            )
    return known, np.array([index[record.label] for record in records], np.int64)


def _order(label: str) -> tuple[int, str]:
    # Numbers by their size, before all texts.
    return (len(label.lstrip("0")), label) if label.isdecimal() else (1 << 30, label)


def divide(examples: Examples, splits: Sequence[str], spec: DataSpec) -> tuple[Examples, Examples]:
    """Return the training and the test examples, as ``splits`` says or by fraction and seed."""
    if not any(splits):
        return split(examples, spec.test_fraction, spec.seed)
    test = np.array([name == "test" for name in splits])
    return examples.take(np.flatnonzero(~test)), examples.take(np.flatnonzero(test))


def check_split(value: object, where: str) -> str:
    """Return a value of the split column, which must be train or test."""
    if value not in SPLITS:
        raise DataError(f"{where}: split {value!r}: must be 'train' or 'test'")
    return str(value)


def place(path: str, source: str) -> tuple[str, str]:
    """Return the split and the class of a file from its folders.

    ``cat/1.png`` is of class cat, ``train/cat/1.png`` also of the training split.
    """
    folders = PurePosixPath(path).parts[:-1]
    if len(folders) == 1 and folders[0] not in SPLITS:
        return "", folders[0]
    if len(folders) == 2 and folders[0] in SPLITS:
        return folders[0], folders[1]
    raise DataError(f"{source}: '{path}' must be in a folder CLASS, train/CLASS or test/CLASS")


def check_layout(splits: set[str], source: str) -> None:
    """Refuse class folders beside train and test folders, and one of these two alone."""
    if splits not in ({""}, set(SPLITS)):
        shown = sorted(name or "no split" for name in splits) or ["no files"]
        raise DataError(f"{source}: {', '.join(shown)}: give train and test, or class folders only")


def check_new(seen: dict[str, str], key: str, where: str) -> None:
    """Remember an id and refuse one that was there before."""
    if key in seen:
        raise DataError(f"{where}: id '{key}' is also at {seen[key]}")
    seen[key] = where
