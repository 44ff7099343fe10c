"""CIFAR-10 from the formats of its two official archives."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from training.data import DataError, DataSet, DataSpec, cifar10, load

from .fixtures import (
    NAMES,
    binary_batch,
    cifar,
    python_batch,
    python_meta,
    records,
    write_folder,
    write_tar,
    write_zip,
)

PIXELS, LABELS = records(20, 0)


def read(root: Path) -> DataSet:
    """Load CIFAR-10 from there."""
    return load(DataSpec("cifar10", str(root)))


def test_both_versions_packed_and_unpacked_hold_the_same(tmp_path: Path) -> None:
    """Binary and Python version, as folder, as parent folder and as archive, are one data set."""
    for kind, binary in (("bin", True), ("py", False)):
        folder = f"cifar-10-batches-{kind}"
        write_folder(tmp_path / kind / folder, cifar(binary=binary))
        write_tar(tmp_path / f"{kind}.tar.gz", cifar(binary=binary), f"{folder}/")
    write_zip(tmp_path / "bin.zip", cifar(binary=True))
    roots = ("bin", "py", "bin/cifar-10-batches-bin", "py.tar.gz", "bin.tar.gz", "bin.zip")
    found = [read(tmp_path / root) for root in roots]
    assert len({dataset.fingerprint for dataset in found}) == 1
    assert (len(found[0].train), len(found[0].test)) == (100, 20)
    assert found[0].classes == tuple(NAMES)
    assert all("unknown checksum" in dataset.source for dataset in found)


def test_pixels_go_from_planes_to_colours(tmp_path: Path) -> None:
    """The 1,025th value of a record is the green of the first pixel."""
    dataset = read(write_folder(tmp_path, cifar(binary=True)))
    first = np.asarray(dataset.train.inputs)[0]
    assert first.shape == (32, 32, 3)
    assert first[0, 0].tolist() == PIXELS[0, [0, 1024, 2048]].tolist()
    assert first[5, 7, 2] == PIXELS[0, 2048 + 5 * 32 + 7]


def test_known_checksums_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive or folder whose hashes are the published ones is called verified."""
    archive = write_tar(tmp_path / "a.tar.gz", cifar(binary=False))
    files = cifar(binary=False)
    sums = {n: hashlib.md5(raw).hexdigest() for n, raw in files.items() if n in cifar10.OFFICIAL}
    monkeypatch.setattr(cifar10, "ARCHIVES", (hashlib.sha256(archive.read_bytes()).hexdigest(),))
    monkeypatch.setattr(cifar10, "OFFICIAL", sums)
    assert "checksum verified" in read(archive).source
    assert "checksum verified" in read(write_folder(tmp_path / "a", files)).source


def test_without_root_the_text_says_where_to_get_it() -> None:
    """The user learns the address and the names of the files."""
    with pytest.raises(
        DataError, match=r"cifar-10-binary.tar.gz .*cs.toronto.edu/~kriz/cifar.html"
    ):
        load(DataSpec("cifar10"))


@pytest.mark.parametrize(
    ("name", "raw", "text"),
    [
        ("test_batch.bin", None, "test_batch.bin missing; cifar10 needs cifar-10-binary"),
        ("test_batch.bin", b"", "test_batch.bin: 0 bytes are no whole records"),
        ("test_batch.bin", bytes(3073 * 2 - 1), "6145 bytes are no whole records of 3073 bytes$"),
        ("test_batch.bin", bytes(3074 * 2), r"6148 bytes .*\(3,074 are CIFAR-100's\)"),
        ("data_batch_2.bin", binary_batch(PIXELS, [*LABELS[:-1], 10]), "label 10 at record 19"),
        ("batches.meta.txt", b"apple\nbear\n", r"batches.meta: class names \['apple', 'bear'\]"),
        ("batches.meta.txt", b"\xff\xfe", "batches.meta: class names"),
        ("other/test_batch.bin", b"", "test_batch.bin is there twice"),
    ],
)
def test_wrong_binary_files_are_refused(
    tmp_path: Path, name: str, raw: bytes | None, text: str
) -> None:
    """Missing batches, other record sizes, labels and names are refused with file and record."""
    files = cifar(binary=True)
    files.pop(name, None)
    with pytest.raises(DataError, match=text):
        read(write_folder(tmp_path, files if raw is None else files | {name: raw}))


@pytest.mark.parametrize(
    ("name", "raw", "text"),
    [
        ("test_batch", None, "test_batch missing"),
        ("test_batch", python_batch(PIXELS, LABELS)[:-9], "test_batch: opcode"),
        ("test_batch", python_batch(PIXELS, [*LABELS[:-1], 10]), "label 10 at record 19"),
        ("test_batch", python_batch(PIXELS, [-70000, *LABELS[1:]]), "label -70000 at record 0"),
        (
            "test_batch",
            python_batch(PIXELS, LABELS[:-1]),
            r"shape \[20, 3072\]: must be \[19, 3072",
        ),
        (
            "test_batch",
            python_batch(PIXELS[:, :-1], LABELS),
            r"shape \[20, 3071\]: must be \[20, 30",
        ),
        ("test_batch", python_batch(PIXELS, LABELS, key=b"fine_labels"), "but CIFAR-100's"),
        ("test_batch", b"\x80\x02].", "not a dictionary with 'data' and 'labels'$"),
        ("test_batch", b"\x80\x02}(U\x04dataNU\x06labels](NNeu.", "not a list of whole numbers"),
        ("test_batch", b"\x80\x02}(U\x04dataNU\x06labels](K\x00K\x01eu.", "'data': not a C-ord"),
        ("batches.meta", python_meta(NAMES[::-1]), r"class names \['truck'"),
        ("batches.meta", b"\x80\x02}.", "class names no list of names"),
        ("batches.meta", b"\x80\x02].", "class names no list of names"),
        ("batches.meta", b"\x80\x02cos\nsystem\nU\x01x\x85R.", "batches.meta: .*'os system'"),
    ],
)
def test_wrong_python_files_are_refused(
    tmp_path: Path, name: str, raw: bytes | None, text: str
) -> None:
    """Damaged and hostile pickles, other shapes, labels and names are refused by file."""
    files = cifar(binary=False)
    del files[name]
    with pytest.raises(DataError, match=text):
        read(write_folder(tmp_path, files if raw is None else files | {name: raw}))


def test_names_are_not_needed(tmp_path: Path) -> None:
    """The six batches are enough."""
    files = cifar(binary=False)
    del files["batches.meta"]
    assert read(write_folder(tmp_path, files)).classes == tuple(NAMES)
