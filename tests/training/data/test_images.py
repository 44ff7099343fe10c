"""Users' pictures."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.data import DataError, DataSet, DataSpec, load
from training.data.images import decode

from .fixtures import picture, refusal, write_folder, write_tar

FILES = {f"{label}/{i}.png": picture(50 * i) for label in ("cat", "dog") for i in range(4)}


def read(root: Path, **options: object) -> DataSet:
    """Load pictures from there."""
    return load(DataSpec(root=str(root), format="images", **options))  # type: ignore[arg-type]


def pixels(dataset: DataSet) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the training pictures."""
    assert isinstance(dataset.train.inputs, np.ndarray)
    return dataset.train.inputs


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG that declares a size and holds a byte of pixels."""
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", b"x")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def test_folders_are_classes(tmp_path: Path) -> None:
    """Grey pictures of one size keep it, in a folder or an archive in any order."""
    dataset = read(write_folder(tmp_path / "pets", FILES))
    assert (dataset.name, dataset.kind, dataset.classes) == ("pets", "image", ("cat", "dog"))
    assert pixels(dataset).shape == (6, 6, 4, 1)
    assert len(dataset.test) == 2
    archive = write_tar(tmp_path / "pets.tar.gz", dict(reversed(FILES.items())))
    assert read(archive).fingerprint == dataset.fingerprint


def test_folders_may_be_splits(tmp_path: Path) -> None:
    """Train and test folders split, and test may lack a class."""
    files = {f"train/{name}": raw for name, raw in FILES.items()} | {"test/dog/9.png": picture(9)}
    dataset = read(write_folder(tmp_path, files))
    assert (len(dataset.train), dataset.test.labels.tolist()) == (8, [1])


def test_one_colour_picture_makes_all_rgb(tmp_path: Path) -> None:
    """Grey pictures get three equal channels."""
    files = FILES | {"cat/9.jpg": picture(200, mode="RGB", file_format="JPEG")}
    found = pixels(read(write_folder(tmp_path, files)))
    assert found.shape[1:] == (6, 4, 3)
    assert (found[0] == found[0, 0, 0, 0]).all()


def test_the_most_common_size_is_everyones(tmp_path: Path) -> None:
    """A picture of another size is resized, or all are where a size is given."""
    files = FILES | {
        "cat/9.png": picture(7, size=(30, 40)),
        "dog/9.bmp": picture(0, file_format="BMP"),
    }
    root = write_folder(tmp_path, files)
    assert pixels(read(root)).shape[1:] == (6, 4, 1)
    assert pixels(read(root, image_size=(8, 10))).shape[1:] == (8, 10, 1)


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    """A phone's picture that lies on its side has the size it is looked at with."""
    lying = picture(1, size=(4, 6), file_format="JPEG", orientation=6)
    files = {f"{label}/{i}.jpg": lying for label in ("cat", "dog") for i in range(2)}
    assert pixels(read(write_folder(tmp_path, files))).shape[1:] == (6, 4, 1)


def test_resizing_is_an_antialiased_bilinear_filter() -> None:
    """A grey ramp keeps its mean, which the nearest neighbour would not."""
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    out = BytesIO()
    Image.fromarray(ramp).save(out, "PNG")
    small = decode("x", out.getvalue(), size=(4, 4), channels=1)
    assert small.shape == (4, 4, 1)
    assert small.mean() == pytest.approx(ramp.mean(), abs=1)


@pytest.mark.parametrize(
    ("name", "raw", "text"),
    [
        ("cat/9.png", b"", "cat/9.png: not a picture that is read, begins with $"),
        ("cat/9.png", b"<svg></svg>", "begins with 3c 73 76 67"),
        ("cat/9.txt", b"hello", "cat/9.txt: not a picture that is read"),
        ("cat/9.png", FILES["cat/1.png"][:-24], "cat/9.png: damaged or truncated picture"),
        ("cat/9.png", FILES["cat/1.png"][:45], "cat/9.png: damaged or truncated picture"),
        ("cat/9.png", bomb(6000, 5000), "6000 x 5000 pixels, at most 25000000"),
        ("cat/9.png", bomb(1 << 30, 1 << 30), "declares far more than 25000000 pixels"),
        ("cat/9.png", picture(1, mode="I;16"), r"more than 8 bits a channel \(mode I;16\)"),
        ("9.png", picture(), "'9.png' must be in a folder CLASS"),
        ("train/cat/9.png", picture(), "no split, train: give train and test"),
    ],
)
def test_wrong_files_are_refused_by_name(tmp_path: Path, name: str, raw: bytes, text: str) -> None:
    """Damaged, huge, deep and misplaced pictures are refused."""
    with pytest.raises(DataError, match=text):
        read(write_folder(tmp_path, FILES | {name: raw}))


@pytest.mark.parametrize(
    ("files", "options", "text"),
    [
        ({}, {}, "no files"),
        ({"cat/1.png": picture(), "cat/2.png": picture()}, {}, "at least two are needed"),
        (FILES, {"classes": ("cat", "cow")}, "label 'dog' is not among the given classes"),
        (FILES, {"classes": ("cat", "dog", "cow")}, "class 'cow' has no training example"),
        (FILES, {"image_size": (0, 3)}, r"image_size \[0, 3\]: must be at least 1 x 1"),
        (FILES, {"image_size": (90000, 90000)}, "64800000000 bytes, at most 8589934592"),
    ],
)
def test_incomplete_folders_are_refused(
    tmp_path: Path, files: dict[str, bytes], options: dict[str, object], text: str
) -> None:
    """Classes and sizes must make a task that fits into memory."""
    with pytest.raises(DataError, match=text):
        read(write_folder(tmp_path, files), **options)


@settings(deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_mutations_raise_nothing_but_data_error(
    kind: str, changes: list[tuple[float, int]]
) -> None:
    """Random bytes in a picture are decoded or refused."""
    raw = bytearray(picture(90, mode="RGB", file_format=kind))
    for place, value in changes:
        raw[int(place * (len(raw) - 1))] = value
    refused = refusal(lambda: decode("x", bytes(raw), size=(6, 4), channels=3))
    assert refused is None or refused.startswith("x: ")
