"""What `service.npz` promises."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.errors import InvalidRequest, ServiceError, TooLarge
from service.npz import read_npz
from service.tensors import Tensor
from tests.support.strategies import damaged, numbers

PLENTY = 1 << 20
HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"
ARRAYS: Mapping[str, Tensor] = {
    "pixels": np.arange(6, dtype=np.float32).reshape(2, 3),
    "ids": np.asarray([7, 8]),
    "none": np.zeros((0, 2), np.uint8),
    "flags": np.asarray([True, False]),
    "kind": np.asarray("text/plain"),
}


def saved(values: Mapping[str, Tensor], *, compressed: bool = False) -> bytes:
    """Return what numpy itself writes for these arrays."""
    buffer = io.BytesIO()
    named: dict[str, Any] = dict(values)
    (np.savez_compressed if compressed else np.savez)(buffer, allow_pickle=True, **named)
    return buffer.getvalue()


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive of any content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"", *, magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    """Return a member with a header of our own."""
    line = f"{header}\n".encode()
    return magic + len(line).to_bytes(2 if magic[6] == 1 else 4, "little") + line + data


def refusal(raw: bytes) -> str:
    """Return the text with which a file is refused."""
    with pytest.raises(InvalidRequest) as caught:
        read_npz(raw, max_bytes=PLENTY)
    return str(caught.value)


def outcome(raw: bytes) -> dict[str, Tensor] | ServiceError:
    """Return the arrays, or the error with which the file is refused."""
    try:
        return read_npz(raw, max_bytes=PLENTY)
    except (InvalidRequest, TooLarge) as error:
        return error


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare names, types, shapes and values."""
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, strict=True)
        assert found[name].flags.c_contiguous


@pytest.mark.parametrize("compressed", [False, True])
def test_what_numpy_writes_is_read(*, compressed: bool) -> None:
    """Names, types, shapes and values come back, from stored and from deflated members."""
    assert_same(read_npz(saved(ARRAYS, compressed=compressed), max_bytes=PLENTY), ARRAYS)


@given(
    numbers().flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_side=0))),
    st.sampled_from("CF"),
    st.sampled_from("<>"),
)
def test_every_plain_array_survives(array: Tensor, order: Any, byte_order: Any) -> None:
    """Both memory orders and both byte orders are understood, and become native."""
    foreign = array.astype(array.dtype.newbyteorder(byte_order), order=order)
    assert_same(read_npz(saved({"x": foreign}), max_bytes=PLENTY), {"x": array})


@given(st.binary() | damaged(saved(ARRAYS)) | damaged(saved(ARRAYS, compressed=True)))
def test_a_damaged_file_is_refused_or_still_the_same(raw: bytes) -> None:
    """No byte can be changed so that other arrays are read, or another error is raised."""
    found = outcome(raw)
    if not isinstance(found, ServiceError):
        assert_same(found, ARRAYS)


@given(st.text(max_size=60), st.binary(max_size=64))
def test_any_header_is_understood_or_refused(header: str, data: bytes) -> None:
    """What stands before the values is text from strangers."""
    raw = zipped({"x.npy": npy(HEADER.format("<f4", header), data)})
    assert isinstance(outcome(raw), (dict, InvalidRequest))


def test_no_more_is_unpacked_than_allowed() -> None:
    """What the members say of their size is added up before one is opened."""
    raw = saved({"a": np.zeros(500, np.uint8), "b": np.zeros(500, np.uint8)}, compressed=True)
    with pytest.raises(TooLarge, match=r"npz: unpacks to 1256 bytes, at most 1255 are allowed"):
        read_npz(raw, max_bytes=1255)
    assert len(read_npz(raw, max_bytes=1256)) == 2


def test_a_member_that_holds_more_than_it_says() -> None:
    """A size below the truth, which the limit was compared with, is found out."""
    raw = saved({"a": np.zeros(5000, np.uint8)}, compressed=True)
    said = (5128).to_bytes(4, "little")
    assert raw.count(said) == 2
    assert refusal(raw.replace(said, (200).to_bytes(4, "little"))).startswith("npz: cannot be read")


def test_objects_are_never_unpickled() -> None:
    """An array of objects is refused by its header."""
    text = refusal(saved({"x": np.asarray([{}], object)}))
    assert "an array of this kind is not read: {'descr': '|O'" in text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "a member begins with , not an .npy file"),
        (b"hello there", "begins with 68 65 6c 6c 6f 20 74 68"),
        (npy(HEADER.format("<f4", "(2,)"), bytes(4)), "4 bytes for shape [2] of float32"),
        (npy(HEADER.format("<f4", "(0,)"), bytes(4)), "4 bytes for shape [0] of float32"),
        (npy(HEADER.format("<U0", "(2,)")), "0 bytes for shape [2] of <U0"),
        (npy(HEADER.format("<i3", "()"), bytes(3)), "<i3"),
        (npy(HEADER.format("<U999999999", "(0,)")), "<U999999999"),
        (npy(HEADER.format("<M8[s]", "()"), bytes(8)), "not read: {'descr': '<M8[s]'"),
        (npy(HEADER.format("<f4", "(-1,)"), bytes(4)), "not read: "),
        (npy(HEADER.format("<f4", "(1,) + exit()"), bytes(4)), "not read: "),
        (npy(HEADER.format("<f4", f"({'1, ' * 64}1)"), bytes(4)), "dimension"),
        (npy(HEADER.format("<f4", f"(0, {'9' * 18}, {'9' * 18})")), "too big"),
        (npy(HEADER.format("<f4", "()"), bytes(4), magic=b"\x93NUMPY\x03\x00"), "begins with 93"),
        (npy(HEADER.format("<f4", "()"))[:40], "an array of this kind is not read"),
    ],
)
def test_members_that_are_no_plain_arrays(content: bytes, text: str) -> None:
    """The text tells what stands there."""
    found = refusal(zipped({"x.npy": content}))
    assert found.startswith("npz: cannot be read: ")
    assert text in found


def test_both_versions_of_the_format() -> None:
    """A header may have its length in two bytes or in four."""
    for version in (1, 2):
        magic = b"\x93NUMPY" + bytes((version, 0))
        raw = zipped({"x.npy": npy(HEADER.format("<i2", "(2,)"), b"\1\0\2\0", magic=magic)})
        assert_same(read_npz(raw, max_bytes=PLENTY), {"x": np.asarray([1, 2], np.int16)})


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_to_compress(method: int) -> None:
    """They could unpack to more than they say."""
    assert "'x.npy' is neither stored nor deflated" in refusal(zipped({"x.npy": b"x"}, method))


def test_a_locked_member() -> None:
    """An archive with a password is refused with the reason."""
    raw = bytearray(saved({"x": np.zeros(1)}))
    raw[raw.index(b"PK\1\2") + 8] |= 1
    assert "encrypted" in refusal(bytes(raw))


def test_a_header_that_takes_long_to_refuse() -> None:
    """Thousands of digits in a shape are refused as fast as a few."""
    content = npy(HEADER.format("<f4", f"({'1' * 20_000}x)"))
    assert "an array of this kind is not read" in refusal(zipped({"x.npy": content}))


def test_a_comment_that_swallows_a_member() -> None:
    """Lengthened by one byte, a member's comment could hide those that follow it."""
    raw = bytearray(saved({"a": np.zeros(1), "b": np.zeros(1)}))
    first = raw.index(b"PK\1\2")
    raw[first + 32] = raw.index(b"PK\5\6") - raw.index(b"PK\1\2", first + 1)
    assert "'a.npy' has a comment" in refusal(bytes(raw))


def test_an_archive_of_nothing() -> None:
    """A directory that says it is empty is damaged."""
    assert "there is no array in it" in refusal(zipped({}))


def test_one_name_twice() -> None:
    """Which of two arrays was meant cannot be known."""
    content = npy(HEADER.format("<i1", "()"), b"\1")
    assert "'x' is there twice" in refusal(zipped({"x.npy": content, "x": content}))


@pytest.mark.parametrize("code", [0x110000, 0x7FFFFFFF, 0xD800, 0xDFFF])
def test_texts_that_hold_no_characters(code: int) -> None:
    """Numbers beyond Unicode, and halves of pairs, are refused in both byte orders."""
    for order in ("little", "big"):
        data = code.to_bytes(4, "little" if order == "little" else "big")
        content = npy(HEADER.format("<U1" if order == "little" else ">U1", "()"), data)
        assert f"0x{code:x} is no character" in refusal(zipped({"x.npy": content}))


@pytest.mark.parametrize("code", [0, 0xD7FF, 0xE000, 0x10FFFF])
def test_texts_at_the_borders_of_unicode(code: int) -> None:
    """What is a character, though hardly ever seen, is read."""
    array = np.asarray([f"{chr(code)}."])
    assert_same(read_npz(saved({"x": array}), max_bytes=PLENTY), {"x": array})
