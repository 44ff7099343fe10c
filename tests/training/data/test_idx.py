"""Fashion-MNIST from its authors' files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import DataError, DataSet, DataSpec, load
from training.data.idx import read_idx

from .fixtures import fashion, idx, refusal, write_folder, write_tar, write_zip

IMAGES = idx(np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28))
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def read(root: Path) -> DataSet:
    """Load Fashion-MNIST from there."""
    return load(DataSpec("fashion-mnist", str(root)))


def test_folder_and_archives_hold_the_same(tmp_path: Path) -> None:
    """Packed, unpacked, in a folder, a tar or a zip: the pictures are the same."""
    roots = [
        write_folder(tmp_path / "gz", fashion()),
        write_folder(tmp_path / "plain", fashion(packed=False)),
        write_tar(tmp_path / "a.tar", fashion(), "./data/fashion/"),
        write_tar(tmp_path / "a.tar.gz", fashion(packed=False), "fashion/"),
        write_zip(tmp_path / "a.zip", fashion()),
    ]
    found = [read(root) for root in roots]
    assert len({dataset.fingerprint for dataset in found}) == 1
    assert (len(found[0].train), len(found[0].test)) == (20, 10)
    assert np.asarray(found[0].train.inputs).shape == (20, 28, 28, 1)
    assert "unknown checksums" in found[0].source


def test_values_keep_their_places() -> None:
    """Rows and columns are those of the file."""
    assert read_idx(IMAGES, "x", 3)[2, 27, 26] == (2 * 784 + 27 * 28 + 26) % 256


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "x: 0 bytes, the header alone has 16"),
        (IMAGES[:15], "x: 15 bytes, the header alone has 16"),
        (b"\x1f\x8b" + IMAGES[2:], "begins with 1f 8b 08 03: not an IDX file"),
        (IMAGES[:2] + b"\x0d" + IMAGES[3:], "values of type 0x0d"),
        (IMAGES[:3] + b"\x01" + IMAGES[4:], "1 dimensions: must be 3"),
        (IMAGES[:-1], r"2351 bytes of values, shape \[3, 28, 28\] needs 2352"),
        (IMAGES + b"\0", "2353 bytes of values"),
        (b"\0\0\x08\x03" + b"\0" * 4 + b"\xff" * 8, "0 bytes of values"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "0 bytes of values"),
    ],
)
def test_damaged_files_are_refused(raw: bytes, text: str) -> None:
    """Every field of the header and the size are checked."""
    with pytest.raises(DataError, match=text):
        read_idx(raw, "x", 3)


@given(st.binary(max_size=60), st.integers(0, 15), st.integers(1, 3))
def test_mutations_raise_nothing_but_data_error(junk: bytes, at: int, dimensions: int) -> None:
    """Whatever is written into the header, the answer is an array or a refusal."""
    raw = IMAGES[:at] + junk + IMAGES[at + len(junk) :]
    refused = refusal(lambda: read_idx(raw, "x", dimensions))
    assert refused is None or refused.startswith("x: ")


@pytest.mark.parametrize(
    ("name", "raw", "text"),
    [
        (TRAIN_LABELS, None, f"needs {TRAIN_LABELS}"),
        (TRAIN_LABELS, idx(np.arange(19, dtype=np.uint8) % 10), "20 pictures, .* has 19 labels"),
        (TRAIN_LABELS, idx(np.full(20, 10, np.uint8)), "label 10 at record 0: must be 0..9"),
        (TRAIN_IMAGES, idx(np.zeros((20, 32, 32), np.uint8)), r"pictures of \[32, 32\]"),
    ],
)
def test_wrong_contents_are_refused(
    tmp_path: Path, name: str, raw: bytes | None, text: str
) -> None:
    """Labels and pictures must fit together and be Fashion-MNIST's."""
    files = fashion(packed=False)
    del files[name]
    with pytest.raises(DataError, match=text):
        read(write_folder(tmp_path, files if raw is None else files | {name: raw}))


@pytest.mark.parametrize("cut", [5, -20, -1])
def test_truncated_gzip_is_refused(tmp_path: Path, cut: int) -> None:
    """A download that was cut off is named, even if only its checksum is gone."""
    files = fashion()
    name = f"{TRAIN_IMAGES}.gz"
    files[name] = files[name][:cut]
    with pytest.raises(DataError, match=f"{name}: truncated or damaged gzip"):
        read(write_folder(tmp_path, files))


def test_packed_and_plain_file_of_one_name_are_refused(tmp_path: Path) -> None:
    """Of two files nobody can say which is meant."""
    files = fashion(packed=False)
    files[f"{TRAIN_IMAGES}.gz"] = gzip.compress(files[TRAIN_IMAGES])
    with pytest.raises(DataError, match="is there twice"):
        read(write_folder(tmp_path, files))


def test_missing_class_is_refused(tmp_path: Path) -> None:
    """All ten classes must be trained."""
    files = fashion(packed=False) | {TRAIN_LABELS: idx(np.arange(20, dtype=np.uint8) % 9)}
    with pytest.raises(DataError, match="class 'Ankle boot' has no training example"):
        read(write_folder(tmp_path, files))
