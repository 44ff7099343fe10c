"""The data sets that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from training.data import DataError, DataSpec, check, load
from training.data.embedded import load_embedded

FILES = ("fashion_mnist_5k.npz", "japanese_vowels.npz", "spam_assassin_400.jsonl.gz", "SHA256SUMS")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the embedded files."""
    embedded = resources.files("training.data").joinpath("embedded")
    for name in FILES:
        (tmp_path / name).write_bytes(embedded.joinpath(name).read_bytes())
    return tmp_path


def test_fashion_mnist_is_balanced() -> None:
    """5,000 and 1,000 grey pictures, as many of each class."""
    dataset = load(DataSpec("fashion-mnist"))
    train = np.asarray(dataset.train.inputs)
    assert (dataset.kind, train.shape) == ("image", (5000, 28, 28, 1))
    assert train.dtype == np.uint8
    assert np.bincount(dataset.train.labels).tolist() == [500] * 10
    assert np.bincount(dataset.test.labels).tolist() == [100] * 10
    assert dataset.classes[0] == "T-shirt/top"
    assert dataset.classes[9] == "Ankle boot"
    assert check(dataset) == []


def test_japanese_vowels_has_the_authors_split() -> None:
    """270 and 370 series of 12 channels, the longest of them in the test split."""
    dataset = load(DataSpec("japanese-vowels"))
    assert (len(dataset.train), len(dataset.test)) == (270, 370)
    assert dataset.classes == tuple(f"speaker-{i}" for i in range(1, 10))
    first = dataset.train.inputs[0]
    assert isinstance(first, np.ndarray)
    assert (first.shape, first.dtype) == ((20, 12), np.float32)
    assert first[0, 0] == pytest.approx(1.860936)
    assert "the longest test series has 29 steps, the longest in training 26" in check(dataset)


def test_mails_are_split_by_time() -> None:
    """2,955 older mails train and 2,364 newer ones test, with far more spam among them."""
    dataset = load(DataSpec("spam-assassin"))
    assert (len(dataset.train), len(dataset.test)) == (2955, 2364)
    assert dataset.classes == ("ham", "spam")
    assert dataset.train.labels.mean() == pytest.approx(0.132, abs=1e-3)
    assert dataset.test.labels.mean() == pytest.approx(0.438, abs=1e-3)
    assert str(dataset.train.inputs[0]).startswith("New Sequences Window")


def test_arrays_may_be_written() -> None:
    """Pictures and series are the caller's own, as tensors need them to be."""
    pictures, series = load(DataSpec("fashion-mnist")), load(DataSpec("japanese-vowels"))
    assert isinstance(pictures.train.inputs, np.ndarray)
    assert pictures.train.inputs.flags.writeable
    first = series.train.inputs[0]
    assert isinstance(first, np.ndarray)
    assert first.flags.writeable


@pytest.mark.parametrize(
    ("name", "file"),
    [("fashion-mnist", FILES[0]), ("japanese-vowels", FILES[1]), ("spam-assassin", FILES[2])],
)
def test_a_changed_file_is_refused_with_both_hashes(copy: Path, name: str, file: str) -> None:
    """One bit is enough, and the text names file, hash found and hash wanted."""
    raw = bytearray((copy / file).read_bytes())
    raw[1000] ^= 1
    (copy / file).write_bytes(raw)
    with pytest.raises(
        DataError, match=rf"{file}: sha256 is [0-9a-f]{{64}}, must be [0-9a-f]{{64}}"
    ):
        load_embedded(name, copy)


def test_an_intact_copy_is_read(copy: Path) -> None:
    """Another folder with the same files gives the same data."""
    assert load_embedded("spam-assassin", copy).fingerprint == (
        load(DataSpec("spam-assassin")).fingerprint
    )


def test_missing_file_and_unknown_name_are_refused(copy: Path) -> None:
    """What is not there is named."""
    (copy / "japanese_vowels.npz").unlink()
    with pytest.raises(DataError, match=r"japanese_vowels.npz: cannot be read"):
        load_embedded("japanese-vowels", copy)
    with pytest.raises(DataError, match="'mnist': no such"):
        load_embedded("mnist", copy)


def test_attribution_comes_with_the_files() -> None:
    """The licence texts that the data need are in the package."""
    text = (resources.files("training.data") / "embedded" / "README.md").read_text("utf-8")
    for phrase in ("Permission is hereby granted", "10.24432/C5NS47", "PDDL", "CC0"):
        assert phrase in text
