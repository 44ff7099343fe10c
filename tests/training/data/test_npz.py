"""Strict .npz files."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.data import DataError
from training.data.npz import cut, read_npy, read_npz, whole_numbers

from .fixtures import npz, refusal

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy(array: object, *, allow_pickle: bool = False) -> bytes:
    """Return an .npy file."""
    out = io.BytesIO()
    np.save(out, np.asarray(array), allow_pickle=allow_pickle)
    return out.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        VALUES,
        VALUES.T,
        np.asfortranarray(VALUES),
        VALUES.astype(">f8"),
        np.array(5, np.int64),
        np.array([True, False]),
        np.array(["a", "bc"]),
        np.zeros((0, 3), np.uint8),
    ],
)
def test_what_numpy_writes_is_read(array: NDArray[Any]) -> None:
    """Values and shapes come back, in this machine's byte order and free to be written."""
    found = read_npy(npy(array), "x")
    np.testing.assert_array_equal(found, array)
    assert found.shape == array.shape
    assert found.flags.writeable
    assert found.dtype.isnative


def test_arrays_come_by_name() -> None:
    """All members of the archive are read."""
    assert read_npz(npz(a=1, b=[2.0]), "x", limit=1000).keys() == {"a", "b"}


def header(text: bytes, body: bytes = b"") -> bytes:
    """Return an .npy file with a header of one's own."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "begins with : not an .npy file"),
        (b"\x93NUMPY\x09\x00", "begins with 93 4e 55 4d 50 59 09 00"),
        (npy(np.array([{}], object), allow_pickle=True), r"not read: \{'descr': '\|O'"),
        (npy(np.zeros(2, [("a", "<f4")])), "an array of this kind is not read"),
        (npy(VALUES)[:-1], r"47 bytes for shape \[3, 4\]"),
        (npy(VALUES)[:40], "an array of this kind is not read"),
        (
            header(b"{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }\n", b"abc"),
            "values of type <f3",
        ),
        (
            header(b"{'descr': '<U0', 'fortran_order': False, 'shape': (9,), }\n"),
            "0 bytes for shape",
        ),
        (
            header(
                b"{'descr': '|u1', 'fortran_order': False, "
                b"'shape': (0, 99999999999999999, 99999999999999999), }\n"
            ),
            "x: shape",
        ),
        (
            header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"0," * 99 + b"), }\n"),
            "x: shape",
        ),
    ],
)
def test_other_arrays_are_refused(raw: bytes, text: str) -> None:
    """Objects, damaged headers and sizes that do not fit are refused without pickle."""
    with pytest.raises(DataError, match=text):
        read_npy(raw, "x")


def test_large_members_are_refused() -> None:
    """A small file that grows large is refused."""
    with pytest.raises(DataError, match="x: 'a': more than 1000 bytes"):
        read_npz(npz(a=np.zeros(10000)), "x", limit=1000)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6))
def test_mutations_raise_nothing_but_data_error(changes: list[tuple[float, int]]) -> None:
    """Random bytes in a file are read or refused."""
    for whole in (npz(values=VALUES), npy(VALUES)):
        raw = bytearray(whole)
        for place, value in changes:
            raw[int(place * (len(raw) - 1))] = value
        read = read_npy if whole.startswith(b"\x93") else lambda r, w: read_npz(r, w, limit=9999)
        refused = refusal(lambda: read(bytes(raw), "x"))  # noqa: B023 - called at once
        assert refused is None or refused.startswith("x: ")


def test_unreadable_text_member_is_refused() -> None:
    """A member that is no array is named."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", b"hello")
    with pytest.raises(DataError, match="x: 'a': begins with 68 65"):
        read_npz(out.getvalue(), "x", limit=1000)


def test_numbers_must_be_whole_and_fit() -> None:
    """Floats and what is beyond int64 are refused."""
    assert whole_numbers(np.array([1], np.uint8), "x").dtype == np.int64
    with pytest.raises(DataError, match="type float64: must be whole"):
        whole_numbers(np.array([1.0]), "x")
    with pytest.raises(DataError, match="18446744073709551615 is too large"):
        whole_numbers(np.array([2**64 - 1], np.uint64), "x")


@pytest.mark.parametrize(
    ("values", "lengths", "text"),
    [
        (VALUES, [1, 3], r"lengths add up to 4, 'values' has 3"),
        (VALUES, [3, 0], "length 0 at record 1"),
        (VALUES, [4, -1], "length 4 at record 0"),
        (VALUES, [1 << 62, 1 << 62, 1 << 62, 1 << 62, 3], "length 4611686018427387904 at record 0"),
        (VALUES[0], [4], "must be floats"),
        (VALUES.astype(int), [3], "'values' int64"),
    ],
)
def test_lengths_must_fit(values: NDArray[Any], lengths: list[int], text: str) -> None:
    """Lengths are positive and use up the values."""
    with pytest.raises(DataError, match=text):
        cut(values, np.array(lengths, np.int64), "x")


def test_cut_series_are_their_own() -> None:
    """The parts have the values in order and share no memory."""
    first, second = cut(VALUES, np.array([1, 2]), "x")
    np.testing.assert_array_equal(second, VALUES[1:])
    assert not np.shares_memory(first, second)


def test_no_lengths_are_no_series() -> None:
    """An empty file holds nothing, not one empty series."""
    assert cut(VALUES[:0], np.zeros(0, np.int64), "x") == ()
