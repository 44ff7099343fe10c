"""Fashion-MNIST, whole: the IDX files of its authors, read strictly."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataError, DataSet, Examples, make_dataset
from training.data.sources import MEBIBYTE, gunzip, read_files

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
LICENSE = "MIT, Copyright 2017 Zalando SE"
# MD5 of the authors' files, from the data set's README.
OFFICIAL = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
_NAMES = tuple(name.removesuffix(".gz") for name in OFFICIAL)
_MAX_FILE = 256 * MEBIBYTE


def load_fashion_mnist(root: Path) -> DataSet:
    """Read the four IDX files, with or without .gz, of a folder or an archive."""
    found: dict[str, bytes] = {}
    verified = True
    for path, raw in read_files(root, _is_wanted, limit=_MAX_FILE, depth=2):
        name = path.rpartition("/")[2]
        plain = name.removesuffix(".gz")
        if plain in found:
            raise DataError(f"{root.name}: {plain} is there twice, see {path}")
        digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()
        verified = verified and OFFICIAL.get(name) == digest
        found[plain] = gunzip(raw, path, _MAX_FILE) if name != plain else raw
    missing = [name for name in _NAMES if name not in found]
    if missing:
        raise DataError(f"{root}: fashion-mnist needs {', '.join(missing)} (or .gz)")
    train, test = (
        _examples(found, f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        for part in ("train", "t10k")
    )
    known = "checksums verified" if verified else "unknown checksums"
    source = f"Fashion-MNIST, IDX files of {root.name} ({known})"
    return make_dataset("fashion-mnist", CLASSES, train, test, source=source, license=LICENSE)


def read_idx(raw: bytes, where: str, dimensions: int) -> NDArray[np.uint8]:
    """Return the bytes of an IDX file as an array with this many dimensions.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each of them
    as a big-endian 32-bit number, then the values in C order.
    """
    start = 4 + 4 * dimensions
    if len(raw) < start:
        raise DataError(f"{where}: {len(raw)} bytes, the header alone has {start}")
    if raw[:2] != b"\0\0":
        raise DataError(f"{where}: begins with {raw[:4].hex(' ')}: not an IDX file")
    if raw[2] != 8:
        raise DataError(f"{where}: values of type {raw[2]:#04x}: must be 0x08, unsigned bytes")
    if raw[3] != dimensions:
        raise DataError(f"{where}: {raw[3]} dimensions: must be {dimensions}")
    shape = [int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4)]
    count = int(np.prod(shape, dtype=object))
    if not count or len(raw) - start != count:
        raise DataError(f"{where}: {len(raw) - start} bytes of values, shape {shape} needs {count}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def _is_wanted(path: str) -> bool:
    return path.rpartition("/")[2].removesuffix(".gz") in _NAMES


def _examples(found: dict[str, bytes], images: str, labels: str) -> Examples:
    pixels, classes = read_idx(found[images], images, 3), read_idx(found[labels], labels, 1)
    if pixels.shape[1:] != (28, 28):
        raise DataError(f"{images}: pictures of {list(pixels.shape[1:])}: must be [28, 28]")
    if len(pixels) != len(classes):
        raise DataError(f"{images}: {len(pixels)} pictures, {labels} has {len(classes)} labels")
    wrong = np.flatnonzero(classes > 9)
    if len(wrong):
        raise DataError(f"{labels}: label {classes[wrong[0]]} at record {wrong[0]}: must be 0..9")
    return Examples(pixels[..., None], classes.astype(np.int64))
