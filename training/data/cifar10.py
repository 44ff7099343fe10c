"""CIFAR-10 from either official archive, packed or unpacked; no pickle is ever loaded.

The binary version holds records of 3,073 bytes: a label, then 1,024 values each of red, green and
blue, row by row. The Python version holds the same pixels in pickled NumPy arrays.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataError, DataSet, Examples, make_dataset
from training.data.inert import read_pickle, read_uint8
from training.data.sources import MEBIBYTE, read_files, sha256_of

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
LICENSE = (
    "none stated by its authors; cite A. Krizhevsky, Learning Multiple Layers of Features, 2009"
)
WHERE_TO_GET_IT = (
    "cifar-10-binary.tar.gz (better) or cifar-10-python.tar.gz from "
    "https://www.cs.toronto.edu/~kriz/cifar.html, or the folder unpacked from either, "
    "cifar-10-batches-bin or cifar-10-batches-py"
)
# SHA-256 of the archives as published; MD5 of the Python files in them.
ARCHIVES = (
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
OFFICIAL = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
_BATCHES = tuple(name for name in OFFICIAL if name != "batches.meta")
_NAMES = (*OFFICIAL, *(f"{name}.bin" for name in _BATCHES), "batches.meta.txt")
_PIXELS = 3 * 32 * 32
_MAX_FILE = 64 * MEBIBYTE


def load_cifar10(root: Path) -> DataSet:
    """Read the six batches of an official archive or of the folder unpacked from it."""
    found = _read(root)
    binary = any(name.endswith(".bin") for name in found)
    ending = ".bin" if binary else ""
    missing = [name + ending for name in _BATCHES if name + ending not in found]
    if missing:
        raise DataError(f"{root}: {', '.join(missing)} missing; cifar10 needs {WHERE_TO_GET_IT}")
    _check_names(found)
    read = read_binary if binary else read_python
    batches = [read(found[name + ending], name + ending) for name in _BATCHES]
    known = "checksum verified" if _known(root, found) else "unknown checksum"
    source = f"CIFAR-10, {root.name} ({known})"
    return make_dataset(
        "cifar10", CLASSES, _join(batches[:-1]), batches[-1], source=source, license=LICENSE
    )


def read_binary(raw: bytes, where: str) -> Examples:
    """Return the records of one batch of the binary version."""
    size = 1 + _PIXELS
    if not raw or len(raw) % size:
        of_100 = " (3,074 are CIFAR-100's)" if raw and len(raw) % (size + 1) == 0 else ""
        raise DataError(f"{where}: {len(raw)} bytes are no whole records of {size} bytes{of_100}")
    records = np.frombuffer(raw, np.uint8).reshape(-1, size)
    return _examples(records[:, 1:], records[:, 0].astype(np.int64), where)


def read_python(raw: bytes, where: str) -> Examples:
    """Return the records of one batch of the Python version."""
    batch = read_pickle(raw, where)
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        of_100 = isinstance(batch, dict) and b"fine_labels" in batch
        hint = ", but CIFAR-100's" if of_100 else ""
        raise DataError(f"{where}: not a dictionary with 'data' and 'labels'{hint}")
    labels = batch[b"labels"]
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{where}: 'labels' is not a list of whole numbers")
    pixels = read_uint8(batch[b"data"], f"{where}: 'data'")
    if pixels.shape != (len(labels), _PIXELS):
        expected = [len(labels), _PIXELS]
        raise DataError(f"{where}: 'data' has shape {list(pixels.shape)}: must be {expected}")
    return _examples(pixels, np.array(labels, np.int64), where)


def _read(root: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path, raw in read_files(root, _is_wanted, limit=_MAX_FILE, depth=2):
        name = path.rpartition("/")[2]
        if name in found:
            raise DataError(f"{root.name}: {name} is there twice, see {path}")
        found[name] = raw
    return found


def _is_wanted(path: str) -> bool:
    return path.rpartition("/")[2] in _NAMES


def _check_names(found: dict[str, bytes]) -> None:
    """Refuse class names other than CIFAR-10's where the archive gives names."""
    names: object = None
    if "batches.meta.txt" in found:
        text = found["batches.meta.txt"].decode("utf-8", "replace")
        names = [line for line in text.splitlines() if line]
    elif "batches.meta" in found:
        meta = read_pickle(found["batches.meta"], "batches.meta")
        listed = meta.get(b"label_names") if isinstance(meta, dict) else None
        # Only lists of byte strings are shown: other values may hold themselves.
        plain = isinstance(listed, list) and all(isinstance(name, bytes) for name in listed)
        names = [name.decode("latin-1") for name in listed or ()] if plain else "no list of names"
    if names is not None and names != list(CLASSES):
        raise DataError(f"batches.meta: class names {str(names)[:200]}: must be {list(CLASSES)}")


def _known(root: Path, found: dict[str, bytes]) -> bool:
    if root.is_file():
        return sha256_of(root) in ARCHIVES
    return all(
        OFFICIAL.get(name) == hashlib.md5(raw, usedforsecurity=False).hexdigest()
        for name, raw in found.items()
    )


def _examples(pixels: NDArray[np.uint8], labels: NDArray[np.int64], where: str) -> Examples:
    wrong = np.flatnonzero((labels < 0) | (labels > 9))
    if len(wrong):
        raise DataError(f"{where}: label {labels[wrong[0]]} at record {wrong[0]}: must be 0..9")
    pictures = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Examples(pictures.copy(order="C"), labels)


def _join(batches: list[Examples]) -> Examples:
    return Examples(
        np.concatenate([np.asarray(batch.inputs) for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
    )
