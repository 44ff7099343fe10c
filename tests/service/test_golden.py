"""What `service.golden` promises."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.errors import BundleError
from service.golden import Golden, dump, load
from service.tensors import BFLOAT16, Tensor
from tests.support.strategies import damaged, numbers

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
GOLDEN = Golden(
    raws=(b"one", b"", b"three"),
    media_type="image/png",
    expected={
        "scores": tuple(np.asarray([i, 1 - i], np.float32) for i in range(3)),
        "weights": tuple(np.ones((i, 2), np.float32) for i in range(3)),
    },
)


def answers(count: int) -> st.SearchStrategy[tuple[Tensor, ...]]:
    """Draw one answer a vector: of one shape or of several, numbers or texts, single or many."""

    def of(dtype: np.dtype[Any], dimensions: int) -> st.SearchStrategy[tuple[Tensor, ...]]:
        elements = st.text(max_size=3).filter(lambda text: not text.endswith("\0"))
        row = arrays.arrays(
            dtype,
            arrays.array_shapes(min_dims=dimensions, max_dims=dimensions, min_side=0, max_side=3),
            elements=elements if dtype.hasobject else None,
        )
        return st.lists(row, min_size=count, max_size=count).map(tuple)

    return st.tuples(numbers() | st.just(np.dtype(object)), st.integers(0, 2)).flatmap(
        lambda drawn: of(*drawn)
    )


@st.composite
def goldens(draw: st.DrawFn) -> Golden:
    """Draw recorded vectors as any exporter might write them."""
    raws = tuple(draw(st.lists(st.binary(max_size=9), min_size=1, max_size=4)))
    expected = draw(st.dictionaries(NAMES, answers(len(raws)), max_size=3))
    return Golden(raws, draw(st.sampled_from(["image/png", "text/plain", ""])), expected)


def assert_same(found: Golden, wanted: Golden) -> None:
    """Compare everything that is recorded."""
    assert found.raws == wanted.raws
    assert found.media_type == wanted.media_type
    assert list(found.expected) == list(wanted.expected)
    for name, rows in wanted.expected.items():
        assert isinstance(found.expected[name], tuple)
        for row, want in zip(found.expected[name], rows, strict=True):
            assert isinstance(row, np.ndarray)
            np.testing.assert_array_equal(row, want, strict=True)


def rewritten(changes: Mapping[str, Any]) -> bytes:
    """Return a good file with some arrays replaced, or left out where None is given."""
    with np.load(io.BytesIO(dump(GOLDEN)), allow_pickle=False) as archive:
        members = {name: archive[name] for name in archive.files} | dict(changes)
    buffer = io.BytesIO()
    kept: dict[str, Any] = {name: value for name, value in members.items() if value is not None}
    np.savez(buffer, allow_pickle=True, **kept)
    return buffer.getvalue()


@given(goldens())
def test_vectors_survive_as_a_file(golden: Golden) -> None:
    """Raw inputs and answers come back, rows of different shapes and texts among them."""
    assert_same(load(dump(golden)), golden)


def test_how_many_vectors_there_are() -> None:
    """A vector counts even if its raw input is empty."""
    assert len(load(dump(GOLDEN))) == 3


def test_the_file_needs_no_pickle() -> None:
    """Anybody can read it with numpy's own strict reader."""
    golden = Golden((b"a",), "text/plain", {"label": (np.asarray(["yes"], object),)})
    with np.load(io.BytesIO(dump(golden)), allow_pickle=False) as archive:
        assert {name: archive[name].tolist() for name in archive.files} == {
            "raw": [97],
            "offsets": [0, 1],
            "media_type": "text/plain",
            "expected.label": [["yes"]],
        }


def test_bfloat16_is_recorded_as_fp32() -> None:
    """Numpy's files know no bfloat16, and FP32 has the same digits."""
    row = np.asarray([1.5, -3e38], BFLOAT16)
    (found,) = load(dump(Golden((b"a",), "", {"y": (row,)}))).expected["y"]
    np.testing.assert_array_equal(found, row.astype(np.float32), strict=True)


def test_a_text_that_a_plain_array_cannot_hold() -> None:
    """What would come back shorter is refused when it is written."""
    golden = Golden((b"a",), "", {"label": (np.asarray(["a\0"], object),)})
    with pytest.raises(BundleError, match=r"output 'label': a text that ends in a zero byte"):
        dump(golden)


@given(damaged(dump(GOLDEN)))
def test_a_damaged_file_is_refused_or_still_the_same(content: bytes) -> None:
    """No other vectors are read from it, and no other error is raised."""
    try:
        found = load(content)
    except BundleError:
        return
    assert_same(found, GOLDEN)


def test_the_file_of_these_tests_is_good() -> None:
    """Without a change it is read, so that each change below is what is refused."""
    assert_same(load(rewritten({})), GOLDEN)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"raw": None}, "'raw' is missing"),
        ({"offsets": None}, "'offsets' is missing"),
        ({"media_type": None}, "'media_type' is missing"),
        ({"raw": np.zeros(8, np.float32)}, "raw is float32 [8]"),
        ({"raw": np.zeros((2, 4), np.uint8)}, "raw is uint8 [2, 4]"),
        ({"offsets": np.asarray([0.0, 8.0])}, "offsets is float64 [2]"),
        ({"offsets": np.asarray(0)}, "offsets is int64 []"),
        ({"offsets": np.zeros(0, np.int64)}, "offsets []... do not cut 8 bytes"),
        ({"offsets": np.asarray([1, 3, 3, 8])}, "offsets [1, 3, 3, 8]... do not cut 8 bytes"),
        ({"offsets": np.asarray([0, 3, 3, 9])}, "do not cut"),
        ({"offsets": np.asarray([0, 5, 3, 8])}, "do not cut"),
        ({"offsets": np.asarray([0, 8])}, "output 'scores' has 3 answers for 1 inputs"),
        ({"media_type": np.asarray(5)}, "media_type is int64 []"),
        ({"media_type": np.asarray(["a"])}, "media_type is <U1 [1]"),
        ({"media_type": np.asarray([{}], object)}, "an array of this kind is not read"),
        ({"expected.scores": np.asarray(5.0)}, "one value without an axis"),
        ({"shapes.weights": None}, "output 'weights' has 6 answers for 3 inputs"),
        ({"shapes.weights": np.zeros((3, 2))}, "shapes is float64 [3, 2]"),
        ({"shapes.weights": np.zeros(3, np.int64)}, "shapes is int64 [3]"),
        ({"shapes.weights": np.asarray([[1], [1], [1]])}, "ask for 3 elements, there are 6"),
        ({"shapes.weights": np.asarray([[2**62, 4], [-(2**62), 4], [6, 1]])}, "shapes [["),
        ({"shapes.weights": np.asarray([[6]])}, "output 'weights' has 1 answers for 3 inputs"),
        ({"shapes.scores": np.asarray([[2], [2], [2]])}, "for answers [3, 2]"),
    ],
)
def test_what_dump_never_writes(changes: Mapping[str, Any], text: str) -> None:
    """The error names the part and what is wrong with it."""
    with pytest.raises(BundleError) as caught:
        load(rewritten(changes))
    assert str(caught.value).startswith("golden vectors cannot be read: ")
    assert text in str(caught.value)


def test_what_is_no_npz_file() -> None:
    """The reader's own reason is told."""
    with pytest.raises(BundleError, match=r"golden vectors cannot be read: npz: cannot be read"):
        load(b"not a zip")


def test_a_file_that_unpacks_to_too_much() -> None:
    """What its members say of their size is believed before any is unpacked."""
    content = bytearray(dump(GOLDEN))
    size = content.index(b"PK\1\2") + 24
    content[size : size + 4] = (2**30 + 1).to_bytes(4, "little")
    with pytest.raises(BundleError, match=f"at most {2**30} are allowed"):
        load(bytes(content))
