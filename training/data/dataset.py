"""The values of this package: labelled raw inputs, and a data set made of two splits of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["image", "sequence", "text"]
ImageArray = NDArray[np.uint8]  # [n, height, width, channels]
Sequences = tuple[NDArray[np.float32], ...]  # each [time, channels]
Texts = tuple[str, ...]
Labels = NDArray[np.int64]


class DataError(ValueError):
    """Data that cannot be used; the text names the file, the record and the value seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Inputs as a client would send them, and for each the index of its class."""

    inputs: ImageArray | Sequences | Texts
    labels: Labels

    def __post_init__(self) -> None:
        """Refuse inputs and labels of different numbers."""
        if len(self.inputs) != len(self.labels):
            raise DataError(f"{len(self.inputs)} inputs with {len(self.labels)} labels")

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> Examples:
        """Return the examples at these places, in this order."""
        places = np.asarray(indices, np.int64)
        if isinstance(self.inputs, np.ndarray):
            return Examples(self.inputs[places], self.labels[places])
        taken = tuple(self.inputs[place] for place in places.tolist())
        return Examples(taken, self.labels[places])


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """Two splits with what they are called, where they come from and a hash of their content."""

    name: str
    kind: Kind
    classes: tuple[str, ...]
    train: Examples
    test: Examples
    source: str
    license: str
    fingerprint: str


def make_dataset(
    name: str,
    classes: tuple[str, ...],
    train: Examples,
    test: Examples,
    *,
    source: str,
    license: str,  # noqa: A002 - the field is called so
) -> DataSet:
    """Check that the two splits make a complete classification task and hash them.

    Raises DataError for fewer than two classes, a label outside them, a class without training
    examples, an empty split, and inputs that do not fit together.
    """
    _check_classes(name, classes)
    for split, examples in (("train", train), ("test", test)):
        _check_labels(f"{name}: {split}", examples, len(classes))
    counts = np.bincount(train.labels, minlength=len(classes))
    for label, count in zip(classes, counts.tolist(), strict=True):
        if not count:
            raise DataError(f"{name}: class '{label}' has no training example")
    kind = _kind(train)
    _check_inputs(name, train, test)
    fingerprint = _fingerprint(classes, train, test)
    return DataSet(name, kind, classes, train, test, source, license, fingerprint)


def _check_classes(name: str, classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        raise DataError(f"{name}: {len(classes)} class {list(classes)}: at least two are needed")
    if len(set(classes)) != len(classes) or not all(label.strip() for label in classes):
        raise DataError(f"{name}: class names must differ and not be empty: {list(classes)}")


def _check_labels(where: str, examples: Examples, classes: int) -> None:
    if not len(examples):
        raise DataError(f"{where}: there is no example")
    wrong = np.flatnonzero((examples.labels < 0) | (examples.labels >= classes))
    if len(wrong):
        label = int(examples.labels[wrong[0]])
        raise DataError(f"{where}: label {label} at record {wrong[0]}: must be 0..{classes - 1}")


def _check_inputs(name: str, train: Examples, test: Examples) -> None:
    if isinstance(train.inputs, np.ndarray) and isinstance(test.inputs, np.ndarray):
        if train.inputs.ndim != 4 or train.inputs.shape[1:] != test.inputs.shape[1:]:
            shapes = f"{list(train.inputs.shape)} and {list(test.inputs.shape)}"
            raise DataError(f"{name}: pictures of the splits have shapes {shapes}")
        return
    if _kind(train) != _kind(test):
        raise DataError(f"{name}: the splits hold {_kind(train)} and {_kind(test)} inputs")
    channels: int | None = None
    for split, examples in (("train", train), ("test", test)):
        for i, one in enumerate(examples.inputs):
            if isinstance(one, np.ndarray):
                channels = _check_series(f"{name}: {split} record {i}", one, channels)


def _check_series(where: str, series: NDArray[np.float32], channels: int | None) -> int:
    """Return the number of channels, which is that of the series before it."""
    if series.ndim != 2 or not series.size:
        raise DataError(
            f"{where}: a series of shape {list(series.shape)}: must be [time, channels]"
        )
    if channels is not None and series.shape[1] != channels:
        raise DataError(f"{where}: {series.shape[1]} channels, those before it have {channels}")
    if not np.isfinite(series).all():
        step, channel = np.argwhere(~np.isfinite(series))[0].tolist()
        value = series[step, channel]
        raise DataError(f"{where}: {value} at step {step}, channel {channel}: must be finite")
    return int(series.shape[1])


def _kind(examples: Examples) -> Kind:
    if isinstance(examples.inputs, np.ndarray):
        return "image"
    return "text" if isinstance(examples.inputs[0], str) else "sequence"


def raw_bytes(example: NDArray[np.uint8] | NDArray[np.float32] | str) -> bytes:
    """Return what identifies one input: its UTF-8 text or its numbers in C order."""
    return example.encode() if isinstance(example, str) else example.tobytes()


def _fingerprint(classes: tuple[str, ...], train: Examples, test: Examples) -> str:
    """Return sha256 over classes, labels and inputs, each with its shape before it."""
    digest = hashlib.sha256(json.dumps(classes).encode())
    for examples in (train, test):
        digest.update(json.dumps(examples.labels.tolist()).encode())
        for example in examples.inputs:
            raw = raw_bytes(example)
            shape = list(example.shape) if isinstance(example, np.ndarray) else len(raw)
            digest.update(json.dumps(shape).encode())
            digest.update(raw)
    return digest.hexdigest()
