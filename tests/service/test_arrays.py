"""What `service.arrays` promises."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.arrays import MAX_DEPTH, array_from_json, kind_of, load_json
from service.errors import InvalidRequest
from service.tensors import DATATYPES, Tensor
from tests.support.strategies import JSON, damaged, numbers

T = TypeVar("T")
INTEGERS = [datatype.numpy for datatype in DATATYPES.values() if datatype.is_integer]
DTYPES = st.one_of(numbers(), st.just(np.dtype(object)))
DOCUMENT = (
    b'{"a": [1, -2.5e3, NaN, null, true], "\\u00e9": "\xc3\xa9 \\ud83d\\ude00", "b": Infinity}'
)


def taken(value: object, dtype: Any) -> Tensor:
    """Return a value as an array, called x in errors."""
    return array_from_json(value, np.dtype(dtype), "x")


def refusal(value: object, dtype: Any) -> str:
    """Return the text with which a value is refused."""
    with pytest.raises(InvalidRequest) as caught:
        taken(value, dtype)
    return str(caught.value)


def outcome(call: Callable[[], T]) -> T | InvalidRequest:
    """Return what a call returns, or the error with which it refuses."""
    try:
        return call()
    except InvalidRequest as error:
        return error


def nested(levels: int) -> object:
    """Return a number inside so many arrays."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def shape_of(value: object) -> tuple[int, ...]:
    """Return the shape of arrays that are not ragged."""
    if not isinstance(value, list):
        return ()
    return (len(value), *(shape_of(value[0]) if value else ()))


@given(JSON, DTYPES)
def test_any_value_is_an_array_or_refused_with_a_name(value: object, dtype: np.dtype[Any]) -> None:
    """Whatever a caller nests, it keeps its shape as the type asked for, or the error names it."""
    found = outcome(lambda: array_from_json(value, dtype, "input 'x'"))
    if isinstance(found, InvalidRequest):
        assert str(found).startswith("input 'x'")
    else:
        assert found.dtype == dtype
        assert found.shape == shape_of(value)


@given(numbers().flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_side=0))))
def test_an_array_survives_as_nested_lists(array: Tensor) -> None:
    """Each type of number holds what it held before, bit for bit but for the kinds of NaN."""
    value = array.tolist()
    np.testing.assert_array_equal(array_from_json(value, array.dtype, "x").tolist(), value)
    assert array_from_json(value, array.dtype, "x").dtype == array.dtype


@given(arrays.arrays(object, arrays.array_shapes(), elements=st.text()))
def test_texts_survive_as_nested_lists(array: Tensor) -> None:
    """Empty texts, zero bytes and every language included."""
    np.testing.assert_array_equal(taken(array.tolist(), object), array, strict=True)


@given(st.sampled_from(INTEGERS), st.lists(st.integers(-(2**70), 2**70), min_size=1))
def test_a_whole_number_is_kept_or_refused(dtype: np.dtype[Any], values: list[int]) -> None:
    """No number is wrapped or cut to fit the type; one that does not fit is named."""
    limits = np.iinfo(dtype)
    outside = [value for value in values if not limits.min <= value <= limits.max]
    if outside:
        text = refusal(values, dtype)
        assert any(f"{value} is outside {limits.min}..{limits.max}" in text for value in outside)
    else:
        assert taken(values, dtype).tolist() == values


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.data())
def test_whole_numbers_may_be_written_as_floats(values: list[int], data: st.DataObject) -> None:
    """A point and a zero change nothing, below the numbers that floats begin to skip."""
    forms = [[value, float(value)] if abs(value) < 2**53 else [value] for value in values]
    written = [data.draw(st.sampled_from(form)) for form in forms]
    assert taken(written, np.int64).tolist() == values


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        ([1, [2, True]], np.float32, "x[1][1]: expected a number, got a boolean"),
        ([1.5, "2"], np.float32, "x[1]: expected a number, got a string"),
        ([[1], [{}]], np.float32, "x[1][0]: expected a number, got an object"),
        ([None], np.int32, "x[0]: expected a whole number, got null"),
        ([True], np.uint8, "x[0]: expected a whole number, got a boolean"),
        ([0, 1], np.bool_, "x[0]: expected true or false, got the number 0"),
        (["a", 7.5], object, "x[1]: expected a string, got the number 7.5"),
        (None, object, "x: expected a string, got null"),
        ({"a": 1}, np.float32, "x: expected a number, got an object"),
    ],
)
def test_an_element_of_another_kind_is_named(value: object, dtype: Any, text: str) -> None:
    """The error says which element it is, what was expected and what was seen."""
    assert refusal(value, dtype) == text


@pytest.mark.parametrize("seen", [0.5, -1.25, 2.0**53, -(2.0**60), math.inf, -math.inf, math.nan])
def test_a_float_that_is_no_exact_whole_number(seen: float) -> None:
    """Fractions, and floats so large that they skip numbers, are refused with the value."""
    assert refusal([1.0, seen], np.int64) == f"x: {seen} is not an exact whole number for int64"


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_, object])
@pytest.mark.parametrize("ragged", [[[1], [1, 1]], [1, [1]], [[1], 1], [[[1]], [1]], [[], [[]]]])
def test_ragged_nesting(ragged: object, dtype: Any) -> None:
    """Lists of different lengths or depths are refused for every type."""
    element = {"b": "true", "O": '"a"'}.get(np.dtype(dtype).kind, "1")
    value = json.loads(json.dumps(ragged).replace("1", element))
    assert refusal(value, dtype) == "x: ragged or mixed nesting of lists"


def test_null_is_nan_and_what_is_too_large_is_infinite() -> None:
    """Floats have a value for what is missing and for what is beyond them."""
    values = taken([None, 1e39, -1e39, 10**39, 16777217], np.float32)
    np.testing.assert_array_equal(values[1:], [math.inf, -math.inf, math.inf, 16777216])
    assert math.isnan(values[0])


def test_a_whole_number_beyond_every_float() -> None:
    """A number of 400 digits is refused, since FP64 has no value near it."""
    assert refusal([10**400], np.float64) == "x: a whole number is too large for float64"


def test_nesting_is_bounded() -> None:
    """An array may be nested as deep as allowed and no deeper, without a look at what it holds."""
    assert taken(nested(MAX_DEPTH), np.float32).ndim == MAX_DEPTH
    assert refusal(nested(MAX_DEPTH + 1), np.float32) == "x: nested deeper than 32 levels"
    assert "nested deeper" in refusal(nested(5000), np.float32)


@given(st.binary() | damaged(DOCUMENT))
def test_any_bytes_are_json_or_refused(raw: bytes) -> None:
    """What is read can be written again, so that any part of it may stand in an answer."""
    found = outcome(lambda: load_json(raw, "file"))
    if isinstance(found, InvalidRequest):
        assert str(found).startswith("file: malformed JSON: ")
    else:
        assert orjson.dumps(found)


@given(JSON)
def test_constants_do_not_change_how_the_rest_is_read(value: object) -> None:
    """Beside a NaN every number, text and object is read as it would be without one."""
    plain = orjson.loads(orjson.dumps(json.loads(json.dumps(value), parse_int=float)))
    raw = orjson.dumps(plain)
    found = load_json(b"[" + raw + b", NaN]")
    assert isinstance(found, list)
    assert repr(found[0]) == repr(orjson.loads(raw))


def test_constants_are_read() -> None:
    """NaN and both infinities, in a document that holds only one of them."""
    for raw, value in (
        (b"[NaN]", math.nan),
        (b"[Infinity]", math.inf),
        (b"[-Infinity]", -math.inf),
    ):
        assert repr(load_json(raw)) == repr([value])


@pytest.mark.parametrize(
    "number",
    [
        "-0",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "1e400",
    ],
)
@pytest.mark.parametrize("beside", ["0", "NaN"])
def test_numbers_are_read_alike_beside_constants(number: str, beside: str) -> None:
    """Numbers of more than 64 bits are floats, and those beyond FP64 refused, in every document."""
    raw = f"[{number}, {beside}]".encode()
    if number == "1e400":
        with pytest.raises(InvalidRequest, match=r"infinity|1e400 is too large"):
            load_json(raw)
    else:
        value = load_json(raw)
        assert isinstance(value, list)
        assert repr(value[0]) == repr(orjson.loads(number))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "file: malformed JSON: "),
        (b"[1,]", "column"),
        (b"[NaN,]", "column"),
        (b'["\\ud800"]', "file: malformed JSON: "),
        (b'["\\ud800", NaN]', "surrogates"),
        (b'["\xed\xa0\x80", NaN]', "decode"),
        ("[NaN]".encode("utf-16"), "file: malformed JSON: "),
        (b"\xef\xbb\xbf[NaN]", "BOM"),
        (b"[" * 5000 + b"NaN", "file: malformed JSON: "),
        (b"[NaN, " + b"1" * 5000 + b"]", "1111 is too large"),
    ],
)
def test_malformed_json(raw: bytes, words: str) -> None:
    """The reason is told, whichever parser found it, and a text in which half a pair hides."""
    with pytest.raises(InvalidRequest) as caught:
        load_json(raw, "file")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (True, "a boolean"),
        ("7", "a string"),
        ([], "an array"),
        ({}, "an object"),
        (7, "the number 7"),
        (-0.5, "the number -0.5"),
    ],
)
def test_kinds_are_called_as_in_json(value: object, kind: str) -> None:
    """People read JSON's words, and numbers are shown."""
    assert kind_of(value) == kind
