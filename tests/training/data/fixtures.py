"""Tiny files in the true formats of the data sets, made on the fly."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data import DataError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
Pixels = NDArray[np.uint8]


def refusal(read: Callable[[], object]) -> str | None:
    """Return the text with which reading was refused, None where it was not."""
    try:
        read()
    except DataError as error:
        return str(error)
    return None


def idx(values: Pixels) -> bytes:
    """Return an IDX file of unsigned bytes."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def fashion(count: int = 20, *, packed: bool = True) -> dict[str, bytes]:
    """Return Fashion-MNIST's four files with a few random pictures, every class among them."""
    random = np.random.default_rng(0)
    files = {}
    for part, size in (("train", count), ("t10k", count // 2)):
        files[f"{part}-images-idx3-ubyte"] = idx(random.integers(0, 256, (size, 28, 28), np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(size, dtype=np.uint8) % 10)
    if packed:
        return {f"{name}.gz": gzip.compress(raw) for name, raw in files.items()}
    return files


def records(count: int, seed: int) -> tuple[Pixels, list[int]]:
    """Return CIFAR-10's pixels [n, 3072] and labels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)
    return pixels, [i % 10 for i in range(count)]


def binary_batch(pixels: Pixels, labels: list[int]) -> bytes:
    """Return a batch of CIFAR-10's binary version."""
    return np.column_stack([np.array(labels, np.uint8), pixels]).tobytes()


class Python2Pickle:
    """Writes opcodes as Python 2's cPickle did with protocol 2, memo and batches included."""

    def __init__(self) -> None:
        """Begin with the protocol."""
        self.out = bytearray(b"\x80\x02")
        self.memo = 0

    def put(self) -> None:
        """Store the topmost value in the memo."""
        code = b"q" + bytes([self.memo]) if self.memo < 256 else struct.pack("<cI", b"r", self.memo)
        self.out += code
        self.memo += 1

    def text(self, raw: bytes) -> None:
        """Write a byte string."""
        short = len(raw) < 256
        self.out += b"U" + bytes([len(raw)]) if short else struct.pack("<cI", b"T", len(raw))
        self.out += raw
        self.put()

    def number(self, value: int) -> None:
        """Write a whole number in as few bytes as it takes."""
        if 0 <= value < 256:
            self.out += b"K" + bytes([value])
        elif 0 <= value < 65536:
            self.out += struct.pack("<cH", b"M", value)
        else:
            self.out += struct.pack("<ci", b"J", value)

    def sequence(self, values: list[int] | list[bytes]) -> None:
        """Write a list, a thousand values at a time."""
        self.out += b"]"
        self.put()
        for start in range(0, len(values), 1000):
            part = values[start : start + 1000]
            self.out += b"(" if len(part) > 1 else b""
            for value in part:
                self.text(value) if isinstance(value, bytes) else self.number(value)
            self.out += b"e" if len(part) > 1 else b"a"

    def name(self, module: bytes, name: bytes) -> None:
        """Write a name to import."""
        self.out += b"c" + module + b"\n" + name + b"\n"
        self.put()

    def array(self, values: Pixels) -> None:
        """Write a NumPy array of unsigned bytes with any number of rows."""
        self.name(b"numpy.core.multiarray", b"_reconstruct")
        self.name(b"numpy", b"ndarray")
        self.out += b"K\x00\x85"
        self.put()
        self.text(b"b")
        self.out += b"\x87"
        self.put()
        self.out += b"R"
        self.put()
        self.out += b"(K\x01"
        for side in values.shape:
            self.number(side)
        self.out += b"\x86"
        self.put()
        self.dtype()
        self.out += b"\x89"
        self.text(values.tobytes())
        self.out += b"t"
        self.put()
        self.out += b"b"

    def dtype(self) -> None:
        """Write the type of unsigned bytes."""
        self.name(b"numpy", b"dtype")
        self.text(b"u1")
        self.out += b"K\x00K\x01\x87"
        self.put()
        self.out += b"R"
        self.put()
        self.out += b"(K\x03"
        self.text(b"|")
        self.out += b"NNN" + struct.pack("<cici", b"J", -1, b"J", -1) + b"K\x00t"
        self.put()
        self.out += b"b"


def python_batch(pixels: Pixels, labels: list[int], *, key: bytes = b"labels") -> bytes:
    """Return a batch of CIFAR-10's Python version."""
    writer = Python2Pickle()
    writer.out += b"}"
    writer.put()
    writer.out += b"("
    writer.text(b"batch_label")
    writer.text(b"training batch 1 of 5")
    writer.text(key)
    writer.sequence(labels)
    writer.text(b"data")
    writer.array(pixels)
    writer.text(b"filenames")
    writer.sequence([b"picture_s_%06d.png" % i for i in range(len(labels))])
    return bytes(writer.out) + b"u."


def python_meta(names: list[str] = NAMES) -> bytes:
    """Return the file with the class names of CIFAR-10's Python version."""
    writer = Python2Pickle()
    writer.out += b"}"
    writer.put()
    writer.out += b"("
    writer.text(b"num_cases_per_batch")
    writer.number(10000)
    writer.text(b"label_names")
    writer.sequence([name.encode() for name in names])
    writer.text(b"num_vis")
    writer.number(3072)
    return bytes(writer.out) + b"u."


def cifar(*, binary: bool, count: int = 20) -> dict[str, bytes]:
    """Return the files of either version of CIFAR-10."""
    ending, write = (".bin", binary_batch) if binary else ("", python_batch)
    files = {
        name + ending: write(*records(count, seed))
        for seed, name in enumerate((*BATCHES, "test_batch"))
    }
    meta = "\n".join([*NAMES, "", ""]).encode() if binary else python_meta()
    files["batches.meta.txt" if binary else "batches.meta"] = meta
    return files | {"readme.html": b"<html></html>"}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files, with their folders, and return the folder."""
    for name, raw in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return folder


def write_tar(path: Path, files: dict[str, bytes], prefix: str = "") -> Path:
    """Write a tar archive, packed if the name says so, with a folder member in front."""
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        folder = tarfile.TarInfo(prefix or "./")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, raw in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return path


def picture(
    value: int = 0,
    *,
    size: tuple[int, int] = (6, 4),
    mode: str = "L",
    file_format: str = "PNG",
    orientation: int = 1,
) -> bytes:
    """Return a picture file of one value, ``size`` being height and width."""
    height, width = size
    image = Image.new(mode, (width, height), value if mode in ("L", "I;16") else (value, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    image.save(out, file_format, **({"exif": exif} if orientation > 1 else {}))
    return out.getvalue()


def npz(**arrays: object) -> bytes:
    """Return an npz file."""
    out = io.BytesIO()
    named = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez_compressed(out, allow_pickle=False, **named)
    return out.getvalue()
