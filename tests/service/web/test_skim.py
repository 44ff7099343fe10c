"""The quick road through JSON: the same arrays as the other, or none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import ServiceError
from service.tensors import DATATYPES
from service.web import wire
from service.web.skim import Skimmer

QUICK = Skimmer(smallest=0)


def body(data: str, datatype: str = "FP32", shape: str = "[2]", more: str = "") -> bytes:
    """Return a request around the text of a tensor's data."""
    return (
        f'{{"inputs": [{{"name": "x", "datatype": "{datatype}", "shape": {shape}, '
        f'"data": {data}}}]{more}}}'
    ).encode()


def outcome(raw: bytes, skimmer: Skimmer | None, max_depth: int = 32) -> object:
    """Return all that can be told of a call, or the text of its refusal."""
    try:
        call = wire.decode(raw, skimmer=skimmer, max_depth=max_depth)
    except ServiceError as error:
        return type(error), str(error)
    tensors = {
        name: (value.dtype, value.shape, value.tolist(), value.tobytes())
        if not value.dtype.hasobject
        else (value.dtype, value.shape, value.tolist())
        for name, value in call.inputs.items()
    }
    return repr(tensors), call.id, call.outputs, call.timeout


def skims(raw: bytes, max_depth: int = 32) -> bool:
    """Whether the quick road reads a body itself."""
    return QUICK.skim(raw, max_depth=max_depth) is not None


@pytest.mark.parametrize(
    ("data", "datatype", "shape"),
    [
        ("[1, -2.5e-3]", "FP32", "[2]"),
        ("[[1, 2], [3, 4]]", "FP64", "[2, 2]"),
        ("[[[1], [2]], [[3], [4]]]", "INT8", "[4]"),
        ("[9007199254740993, -9223372036854775808]", "INT64", "[2]"),
        ("[18446744073709551615, 0]", "UINT64", "[2]"),
        ("[1e39, -0.0]", "FP32", "[2]"),
        ("[]", "FP32", "[0]"),
        ("[[], []]", "INT32", "[2, 0]"),
        ("[true, false]", "BOOL", "[2]"),
        ('["a[", "b"]', "BYTES", "[2]"),
    ],
)
def test_plain_tensors_are_read_quickly(data: str, datatype: str, shape: str) -> None:
    """Flat and nested numbers of every type need no other road, and texts do no harm."""
    raw = body(data, datatype, shape, ', "id": "a[0]", "parameters": {"b[": "["}')
    assert skims(raw)
    assert outcome(raw, QUICK) == outcome(raw, None)


@pytest.mark.parametrize(
    ("data", "datatype"),
    [
        ("[1, [2]]", "FP32"),
        ("[[1, 2], 3]", "FP32"),
        ("[[1], [2, 3]]", "FP32"),
        ("[1, [2, 3], []]", "FP32"),
        ("[[], [1, 2]]", "FP32"),
        ("[[1, 2], []]", "FP32"),
        ("[[1, [2]], [3, 4]]", "FP32"),
        ("[1, null]", "FP32"),
        ("[1, NaN]", "FP32"),
        ("[1, true]", "FP32"),
        ('[1, "2"]', "FP32"),
        ("[1, {}]", "FP32"),
        ("[1, 1e400]", "FP32"),
        ("[1, 99999999999999999999]", "FP32"),
        ("[1, 2.0]", "INT32"),
        ("[1, 2.5]", "INT32"),
        ("[1, 300]", "UINT8"),
        ("[1, -1]", "UINT8"),
        ("[1, -129]", "INT8"),
        ("[1, 9223372036854775808]", "INT64"),
        ("[1, -1]", "UINT64"),
        ("[1, 2", "FP32"),
        ("1", "FP32"),
    ],
)
def test_what_is_not_plain_is_left_to_the_other_road(data: str, datatype: str) -> None:
    """Ragged, coerced or out of range: the other road takes it or says what is wrong."""
    assert not skims(body(data, datatype)) or data == "1"
    assert outcome(body(data, datatype), QUICK) == outcome(body(data, datatype), None)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbf" + body("[1, 2]"),
        body("[1, 2]") + b" x",
        body("[1, 2]", more=', "id": "\\ud800"'),
        body("[1, 2]", more=', "id": "\xff"').replace(b"\xc3\xbf", b"\xff"),
        body("[1, 2]", more=', "id": "\\u005b"'),
        body("[1, 2]", more=', "inputs": []'),
        body("[1, 2]", more=', "id": "a", "id": "b"'),
        body("[1, 2]").replace(b'"name": "x"', b'"name": "x", "name": "y"'),
        body("[1, 2]").replace(b'"shape": [2]', b'"shape": [2], "shape": [1]'),
        body("[1, 2]").replace(b'{"name"', b'{"data": [3], "name"'),
        b"[]",
        b"",
        b'{"inputs": [1]}',
        b'{"inputs": {"name": "x"}}',
    ],
)
def test_bodies_on_which_parsers_differ(raw: bytes) -> None:
    """Marks, rests, half characters and repeated members end as they do without the quick road."""
    assert outcome(raw, QUICK) == outcome(raw, None)


@pytest.mark.parametrize("depth", [3, 4, 5, 6, 7, 40])
def test_depth_is_bounded_alike(depth: int) -> None:
    """Both roads allow the same nesting, in data and beside it."""
    for levels in range(1, 8):
        opened, closed = "[" * levels, "]" * levels
        for raw in (
            body(f"{opened}1{closed}", shape="[1]"),
            body("[1]", shape="[1]", more=f', "else": {opened}{closed}'),
        ):
            assert outcome(raw, QUICK, depth) == outcome(raw, None, depth)
    assert outcome(body("[" * 500 + "]" * 500), QUICK) == outcome(body("[" * 500 + "]" * 500), None)


def test_small_and_huge_bodies_take_the_other_road() -> None:
    """Below it is not worth it, beyond it would cost too much memory."""
    assert Skimmer().skim(body("[1, 2]"), max_depth=32) is None
    assert Skimmer().skim(body(f"[1{', 1' * 1000}]"), max_depth=32) is not None
    assert QUICK.skim(body("[1, 2]") + b" " * (16 << 20), max_depth=32) is None


def test_a_body_is_forgotten_before_the_next() -> None:
    """Nothing of a body that was refused holds the parser back, and arrays outlive their body."""
    first = QUICK.skim(body("[1, 2]"), max_depth=32)
    assert first is not None
    for wrong in ("[1, [2]]", "[1, null]", "[1, 2"):
        assert not skims(body(wrong))
        assert skims(body("[3, 4]"))
    assert first["inputs"][0]["data"].tolist() == [1, 2]


_NUMBERS = (
    st.integers(-(2**65), 2**65)
    | st.integers(-300, 300)
    | st.floats()
    | st.sampled_from([0.0, -0.0, 5e-324, 1.5, 3.0])
)
_LEAVES = _NUMBERS | st.sampled_from([None, True, "[", "1", {}, {"a": [1]}])
_REGULAR: st.SearchStrategy[Any] = st.integers(0, 3).flatmap(
    lambda width: st.lists(
        st.lists(_NUMBERS, min_size=width, max_size=width) if width else _NUMBERS, max_size=4
    )
)
_WILD: st.SearchStrategy[Any] = st.lists(
    st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=6), max_size=4
)


def leaves(data: object) -> int:
    """Return the number of elements in any nesting."""
    return sum(map(leaves, data)) if isinstance(data, list) else 1


@settings(max_examples=200)
@example([[1, 2], [3, 4]], "FP32", None)
@given(_REGULAR | _WILD, st.sampled_from(sorted(DATATYPES)), st.integers(0, 4) | st.none())
def test_both_roads_end_alike(data: list[object], datatype: str, size: int | None) -> None:
    """For any data the quick road gives the same array, bit for bit, or the same refusal."""
    count = leaves(data) if size is None else size
    raw = body(json.dumps(data), datatype, f"[{count}]")
    assert outcome(raw, QUICK) == outcome(raw, None)


@given(st.text('[]{}:,"\\ \n01.5e-tru\u00e9', max_size=12), st.sampled_from(["FP32", "INT8"]))
def test_both_roads_end_alike_on_any_text(data: str, datatype: str) -> None:
    """Whatever stands where data should, legal JSON or not."""
    assert outcome(body(data, datatype), QUICK) == outcome(body(data, datatype), None)


@pytest.mark.parametrize(
    "raw",
    [
        body("[1, 2]"),
        body("[1, 2]", more=', "outputs": [{"name": "y"}], "id": "7"'),
        b'{"inputs":[{"data":[ 1,2 ],"name":"[x]","datatype":"FP32","shape":[2]}]}',
        b'{"inputs":[{"data" : [1,2e0],"name":"x","datatype":"INT32","shape":[2]}]}',
    ],
)
def test_the_data_of_a_request_is_cut_out(raw: bytes) -> None:
    """What is left is short and the same for every call, so that it is read only once."""
    parts = QUICK.split(raw)
    assert parts is not None
    rest, data = parts
    assert json.loads(rest)["inputs"][0]["data"] == []
    assert rest.replace(b"[]", data) == raw
    assert outcome(raw, QUICK) == outcome(raw, None)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"inputs":[{"name":"a\\"data\\":[5]","data":[],"datatype":"FP32","shape":[0]}]}',
        b'{"inputs":[{"x\\"data":[5],"name":"x","data":[],"datatype":"FP32","shape":[0]}]}',
        b'{"inputs":[{"name":"x","data":[],"datatype":"FP32","shape":[0]}],"data":[5]}',
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}],"data":[5]}',
        b'{"inputs":[{"name":"x","data":[1,[2]],"datatype":"FP32","shape":[2]}]}',
        b'{"inputs":[{"name":"x","data":[1,2,"datatype":"FP32","shape":[2]}]}',
        b'{"inputs":[{"name":"x","data":[1 2],"datatype":"FP32","shape":[2]}]}',
        b'{"inputs":[{"name":"x","data":[1,2],"datatype":"FP32","shape":[2],}]}',
        b'{"inputs":[{"name":"x","data":{"a":[1,2]},"datatype":"FP32","shape":[2]}]}',
        b'{"inputs":[{"name":"x","data":[1,2],"datatype":"BYTES","shape":[2]}]}',
        b'{"inputs":[{"name":"x","data":[1,300],"datatype":"UINT8","shape":[2]}]}',
        b'{"inputs":[{"name":"x","data":[1],"datatype":"FP32","shape":[2]}]}',
        b'{"id":"data","inputs":[{"name":"x","data":[1],"datatype":"FP32","shape":[1]}]}',
        b'["data":[1]',
        b'"data"',
    ],
)
def test_what_only_looks_like_the_data_of_a_request(raw: bytes) -> None:
    """A key in a text, a second one, damage: the answer is that of the other road."""
    assert outcome(raw, QUICK) == outcome(raw, None)
