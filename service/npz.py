"""NumPy's .npz files from strangers: plain arrays only, and no more bytes than allowed."""

from __future__ import annotations

import io
import math
import re
import struct
import sys
import zipfile
import zlib

import numpy as np

from service.errors import InvalidRequest, TooLarge
from service.tensors import Tensor

# The header as NumPy writes it; anything else, objects above all, is refused without a look.
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[biufU]\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}(?:, \d{1,18})*,?)?)\),? ?\}[ ]*\n"
)
_STARTS = {b"\x93NUMPY\x01\x00": 10, b"\x93NUMPY\x02\x00": 12}
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Python's zip reader raises all of these on damaged archives; RuntimeError means encrypted.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,
    RuntimeError,
)


def read_npz(raw: bytes, *, max_bytes: int) -> dict[str, Tensor]:
    """Return the arrays of an .npz file by name, in native byte order.

    Raises InvalidRequest for a damaged file and for arrays that would need pickle, and TooLarge
    where the members say that they unpack to more than ``max_bytes``, before any is unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            declared = sum(member.file_size for member in members)
            if declared > max_bytes:
                raise TooLarge(f"npz: unpacks to {declared} bytes, at most {max_bytes} are allowed")
            if not members:
                raise ValueError("there is no array in it")
            arrays: dict[str, Tensor] = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError(f"'{name}' is there twice")
                arrays[name] = _array(_content(archive, member))
            return arrays
    except _DAMAGED as error:
        raise InvalidRequest(f"npz: cannot be read: {error}") from error


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    # NumPy writes none; one that is too long would hide the members behind it.
    if member.comment:
        raise ValueError(f"'{member.filename}' has a comment")
    # Other methods are unpacked whole, whatever size the member says that it has.
    if member.compress_type not in _COMPRESSIONS:
        raise ValueError(f"'{member.filename}' is neither stored nor deflated")
    with archive.open(member) as file:
        return file.read(member.file_size)


def _array(content: bytes) -> Tensor:
    start = _STARTS.get(content[:8])
    if start is None:
        raise ValueError(f"a member begins with {content[:8].hex(' ')}, not an .npy file")
    end = start + int.from_bytes(content[8:start], "little")
    header = _HEADER.fullmatch(content[start:end])
    if header is None:
        shown = content[start : min(end, start + 80)].decode("latin-1").strip()
        raise ValueError(f"an array of this kind is not read: {shown}")
    dtype = np.dtype(header[1].decode())
    shape = [int(size) for size in header[3].replace(b",", b" ").split()]
    if math.prod(shape) * dtype.itemsize != len(content) - end or not dtype.itemsize:
        raise ValueError(f"{len(content) - end} bytes for shape {shape} of {dtype}")
    if dtype.kind == "U":
        _check_characters(np.frombuffer(content, f"{dtype.byteorder}u4", offset=end))
    values = np.frombuffer(content, dtype, offset=end)
    shaped = values.reshape(shape, order="F" if header[2] == b"True" else "C")
    return shaped.astype(dtype.newbyteorder("="), order="C")


def _check_characters(codes: Tensor) -> None:
    """Refuse what numpy takes for text but Python cannot make a text of, or cannot write."""
    bad = codes[(codes > sys.maxunicode) | ((codes >= 0xD800) & (codes <= 0xDFFF))]
    if bad.size:
        raise ValueError(f"0x{bad[0]:x} is no character")
