"""NumPy's .npz files, read strictly: plain arrays only, and only what the file really holds."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataError
from training.data.sources import DAMAGED, read_bounded

# The header as NumPy writes it; anything else, objects above all, is refused without a look.
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[biufUS]\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18},? ?)*)\), \}[ ]*\n"
)
_MAGIC = b"\x93NUMPY"


def read_npz(raw: bytes, where: str, *, limit: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file by name, each with at most ``limit`` bytes.

    Raises DataError for a damaged file and for arrays that would need pickle.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    content = read_bounded(file, f"{where}: '{name}'", limit)
                arrays[name] = read_npy(content, f"{where}: '{name}'")
    except DataError:
        raise
    except DAMAGED as error:
        raise DataError(f"{where}: damaged npz: {type(error).__name__}: {error}") from error
    return arrays


def read_npy(raw: bytes, where: str) -> NDArray[Any]:
    """Return the array of one .npy file of format 1.0 or 2.0."""
    if raw[:6] != _MAGIC or raw[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise DataError(f"{where}: begins with {raw[:8].hex(' ')}: not an .npy file")
    start = 10 if raw[6] == 1 else 12
    end = start + int.from_bytes(raw[8:start], "little")
    header = _HEADER.fullmatch(raw[start:end])
    if header is None:
        shown = raw[start : start + 80].decode("latin-1")
        raise DataError(f"{where}: an array of this kind is not read: {shown.strip()}")
    shape = [int(side) for side in header[3].decode().replace(",", " ").split()]
    dtype = _dtype(header[1].decode(), where)
    count = int(np.prod(shape, dtype=object))
    if count * dtype.itemsize != len(raw) - end or not dtype.itemsize:
        raise DataError(f"{where}: {len(raw) - end} bytes for shape {shape} of {dtype}")
    values = np.frombuffer(raw[end:], dtype)
    order: Any = "F" if header[2] == b"True" else "C"
    try:
        return values.reshape(shape, order=order).astype(dtype.newbyteorder("="), order="C")
    except ValueError as error:
        raise DataError(f"{where}: shape {shape}: {error}") from error


def _dtype(text: str, where: str) -> np.dtype[Any]:
    try:
        return np.dtype(text)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: values of type {text}: {error}") from error


def whole_numbers(array: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Return an array of integers as int64; raise DataError for other values."""
    if array.dtype.kind not in "iu":
        raise DataError(f"{where}: values of type {array.dtype}: must be whole numbers")
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{where}: {array.max()} is too large")
    return array.astype(np.int64)


def cut(
    values: NDArray[Any], lengths: NDArray[np.int64], where: str
) -> tuple[NDArray[np.float32], ...]:
    """Return float32 [time, channels] each, cut in order out of values [all times, channels]."""
    if values.ndim != 2 or values.dtype.kind != "f":
        shape = list(values.shape)
        raise DataError(
            f"{where}: 'values' {values.dtype} {shape}: must be floats [time, channels]"
        )
    wrong = np.flatnonzero((lengths < 1) | (lengths > len(values)))
    if len(wrong):
        raise DataError(f"{where}: length {lengths[wrong[0]]} at record {wrong[0]}")
    if int(lengths.sum()) != len(values):
        raise DataError(f"{where}: lengths add up to {lengths.sum()}, 'values' has {len(values)}")
    with np.errstate(over="ignore"):
        # Beyond float32 becomes infinite here, which the checks of the data set refuse.
        single = values.astype(np.float32)
    # What is left behind the last series is empty, as are the values where there is no series.
    return tuple(part.copy() for part in np.split(single, np.cumsum(lengths))[:-1])
