"""Pickles that are read and never loaded."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import DataError, cifar10
from training.data.inert import Call, Name, read_pickle, read_uint8

from .fixtures import Python2Pickle, python_batch, python_meta, records, refusal

PIXELS, LABELS = records(3, 0)
BATCH = python_batch(PIXELS, LABELS)


def wrapped(body: bytes) -> bytes:
    """Return a pickle of these opcodes."""
    return b"\x80\x02" + body + b"."


def array_pickle(state: bytes, dtype: bytes = b"u1") -> bytes:
    """Return a pickled array with another state or type."""
    writer = Python2Pickle()
    writer.name(b"numpy.core.multiarray", b"_reconstruct")
    writer.name(b"numpy", b"ndarray")
    writer.out += b"K\x00\x85U\x01b\x87R"
    writer.out += b"(K\x01" + state.replace(
        b"TYPE", b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87R"
    )
    return bytes(writer.out) + b"tb."


def test_fixture_is_a_true_pickle() -> None:
    """Python's own loader reads the same from the fixture as the walker does."""
    # NumPy says so itself: files of Python 2 name its old module.
    loaded = pickle.loads(BATCH, encoding="bytes")
    walked = read_pickle(BATCH, "x")
    assert loaded.keys() == walked.keys()
    assert walked[b"labels"] == loaded[b"labels"] == LABELS
    assert walked[b"filenames"] == loaded[b"filenames"]
    np.testing.assert_array_equal(read_uint8(walked[b"data"], "x"), loaded[b"data"])
    np.testing.assert_array_equal(loaded[b"data"], PIXELS)


def test_meta_is_read_as_the_loader_reads_it() -> None:
    """Names and numbers of the meta file come out alike."""
    assert read_pickle(python_meta(), "x") == pickle.loads(python_meta(), encoding="bytes")


def test_code_stays_a_record() -> None:
    """A call is shown, not carried out."""
    made = read_pickle(BATCH, "x")[b"data"]
    assert isinstance(made, Call)
    assert made.function == Name("numpy.core.multiarray _reconstruct")


def test_values_of_every_kind_are_read() -> None:
    """None, switches, numbers, texts, tuples, single appends and items come out as they went in."""
    body = b"}U\x01a](NN\x88\x89J\xff\xff\xff\xffM\x00\x01K\x05tas" + b"X\x01\x00\x00\x00b)\x85s"
    assert read_pickle(wrapped(body), "x") == {
        b"a": [(None, None, True, False, -1, 256, 5)],
        b"b": ((),),
    }


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (wrapped(b"cos\nsystem\nU\x04true\x85R"), "asks for 'os system'"),
        (wrapped(b"cposix\nsystem\nq\x00"), "asks for 'posix system'"),
        (wrapped(b"c__builtin__\neval\nU\x011\x85R"), "asks for '__builtin__ eval'"),
        (wrapped(b"cnumpy\nload\nU\x01x\x85R"), "asks for 'numpy load'"),
        (wrapped(b"c_codecs\nencode\nq\x00"), "asks for '_codecs encode'"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "SHORT_BINUNICODE .* not among the opcodes"),
        (wrapped(b"(ios\nsystem\n"), "opcode INST"),
        (wrapped(b"(cnumpy\nndarray\no"), "opcode OBJ"),
        (wrapped(b"cnumpy\nndarray\n)\x81"), "opcode NEWOBJ"),
        (wrapped(b"\x82\x01"), "opcode EXT1"),
        (wrapped(b"Pid\n"), "opcode PERSID"),
        (wrapped(b"I01\n"), "opcode INT"),
        (wrapped(b"N2"), "opcode DUP"),
        (wrapped(b"K\x01)R"), "calls something"),
        (wrapped(b"cnumpy\nndarray\nK\x01R"), "calls something"),
        (wrapped(b"]Nb"), "needs a Call, finds a list"),
        (wrapped(b"cnumpy\ndtype\n)RK\x01bK\x01b"), "state of a value twice"),
        (wrapped(b"NNa"), "needs a list, finds a NoneType"),
        (wrapped(b"a"), "takes from an empty stack"),
        (wrapped(b"Na"), "looks at an empty stack"),
        (wrapped(b"](Na"), "looks at an empty stack"),
        (wrapped(b"N(\x85"), "takes from an empty stack"),
        (wrapped(b"]e"), "takes a mark"),
        (wrapped(b"}(Nu"), "a key without a value"),
        (wrapped(b"}K\x01Ns"), "sets a key that is no new name, but a int"),
        (wrapped(b"}U\x01aNsU\x01aNs"), "sets a key"),
        (wrapped(b"})Ns"), "but a tuple"),
        (wrapped(b"h\x07"), "opcode BINGET"),
        (wrapped(b""), "leaves 0 values"),
        (wrapped(b"NN"), "leaves 2 values"),
        (wrapped(b"N("), "1 marks"),
        (wrapped(b"N") + b"junk", "followed by 4 bytes"),
        (b"", "opcode none at byte 0"),
        (b"<html>", "x: opcode"),
        (BATCH[:-1], "x: opcode"),
        (BATCH[:2000], "x: opcode"),
    ],
)
def test_hostile_and_damaged_files_are_refused(raw: bytes, text: str) -> None:
    """Other imports, other opcodes and broken stacks are refused with opcode and place."""
    with pytest.raises(DataError, match=text):
        read_pickle(raw, "x")


def test_a_file_that_nests_itself_costs_no_time() -> None:
    """Tuples of tuples of the same tuple are refused as keys before they are hashed."""
    bomb = wrapped(b"})" + b"q\x00h\x00\x86" * 200 + b"Ns")
    started = time.process_time()
    with pytest.raises(DataError, match="but a tuple"):
        read_pickle(bomb, "x")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (array_pickle(b"K\x02K\x02\x86TYPE\x89U\x03abc"), r"3 bytes of values, shape \[2, 2\]"),
        (array_pickle(b")TYPE\x89U\x01a"), "a shape that is not theirs"),
        (array_pickle(b"\x88\x85TYPE\x89U\x01a"), "a shape that is not theirs"),
        (array_pickle(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86TYPE\x89U\x01a"), "a shape"),
        (array_pickle(b"K\x00\x85TYPE\x89U\x00"), "a shape that is not theirs"),
        (array_pickle(b"K\x01\x85TYPE\x88U\x01a"), "not a C-ordered NumPy array"),
        (array_pickle(b"K\x01\x85TYPE\x89U\x01a", b"O8"), "not a C-ordered NumPy array"),
        (array_pickle(b"K\x01\x85TYPE\x89U\x01a", b"i8"), "not a C-ordered NumPy array"),
        (wrapped(b"]"), "not a C-ordered NumPy array"),
    ],
)
def test_other_arrays_are_refused(raw: bytes, text: str) -> None:
    """Only unsigned bytes in a shape that they fill make an array."""
    with pytest.raises(DataError, match=text):
        read_uint8(read_pickle(raw, "x"), "x")


@given(st.lists(st.tuples(st.integers(0, len(BATCH) - 1), st.integers(0, 255)), max_size=8))
def test_mutations_raise_nothing_but_data_error(changes: list[tuple[int, int]]) -> None:
    """Random bytes in a true file are read or refused."""
    raw = bytearray(BATCH)
    # The pixels are most of the file; the first and last bytes are its structure.
    edge = len(raw) - PIXELS.size
    for place, value in changes:
        near = place % edge
        raw[near if near < edge // 2 else near - edge] = value
    refused = refusal(lambda: cifar10.read_python(bytes(raw), "x"))
    assert refused is None or refused.startswith("x: ")


def test_an_unknown_escape_is_damage() -> None:
    """Python would only warn of it, and only if asked."""
    assert str(refusal(lambda: read_pickle(rb"S'\y'" + b"\n.", "x"))).startswith("x: ")


@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_but_data_error(raw: bytes) -> None:
    """What is no pickle at all is refused."""
    refused = refusal(lambda: read_pickle(raw, "x"))
    assert refused is None or refused.startswith("x: ")


@given(st.lists(st.sampled_from([b"N", b"(", b"t", b"]", b"}", b"a", b"e", b"s", b"u", b"R", b"b",
                                 b"\x85", b"\x86", b"q\x00", b"h\x00", b"K\x01", b"U\x01a",
                                 b"cnumpy\ndtype\n", b")"])))  # fmt: skip
def test_any_opcodes_raise_nothing_but_data_error(codes: list[bytes]) -> None:
    """Known opcodes in any order are read or refused."""
    refused = refusal(lambda: read_pickle(wrapped(b"".join(codes)), "x"))
    assert refused is None or refused.startswith("x: ")
