"""Arrays on the wire: what infer sends and what it makes of an answer."""

from __future__ import annotations

import json
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.client import BadAnswer, BFloat16, InferResult, InvalidInput
from service.client.calls import Call, InferOptions, infer
from service.client.replies import Reply, read_infer
from service.tensors import DATATYPES
from tests.service.client import frames

# BF16 has tests of its own, since numpy has no such type.
NUMBERS = sorted(DATATYPES.keys() - {"BYTES", "BF16"})
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
JSON = InferOptions(binary=False)


def numbers(datatype: str) -> st.SearchStrategy[Any]:
    """Return arrays of one datatype, some in foreign byte order, some not contiguous."""
    dtype = DATATYPES[datatype].numpy
    plain = arrays.arrays(dtype, SHAPES)
    swapped = plain.map(lambda one: one.astype(dtype.newbyteorder()))
    return st.one_of(plain, swapped, plain.map(lambda one: one.T))


def texts() -> st.SearchStrategy[Any]:
    """Return object arrays of bytes that may hold anything."""
    return arrays.arrays(np.object_, SHAPES, elements=st.binary(max_size=9), fill=st.nothing())


ANY = st.one_of(
    *(st.tuples(st.just(one), numbers(one)) for one in NUMBERS),
    st.tuples(st.just("BYTES"), texts()),
)


def sent(call: Call[InferResult]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return what an independent reader makes of a call."""
    return frames.read_request(call.content, call.headers.get("Inference-Header-Content-Length"))


def same(left: Any, right: Any) -> bool:
    """Whether two elements are the same, NaN included."""
    return bool(left == right) or (math.isnan(left) and math.isnan(right))


@given(st.lists(ANY, min_size=1, max_size=3))
def test_another_reader_finds_what_was_sent(tensors: list[tuple[str, Any]]) -> None:
    """Every datatype, shape and memory layout arrives element by element."""
    inputs = {f"x{index}": value for index, (_, value) in enumerate(tensors)}
    head, values = sent(infer("m", inputs, InferOptions()))
    for (datatype, value), member in zip(tensors, head["inputs"], strict=True):
        assert member["datatype"] == datatype
        assert member["shape"] == list(value.shape)
        elements = value.reshape(-1).tolist()
        assert all(map(same, values[member["name"]], elements))
        assert len(values[member["name"]]) == len(elements)


@given(st.lists(ANY, min_size=1, max_size=3))
def test_what_another_writer_writes_is_read(tensors: list[tuple[str, Any]]) -> None:
    """The arrays have the datatype, the shape and the elements, and belong to the caller."""
    written = [
        (f"y{index}", datatype, list(value.shape), value.reshape(-1).tolist())
        for index, (datatype, value) in enumerate(tensors)
    ]
    body, headers = frames.answer(*written)
    outputs = read_infer(Reply(200, headers, body)).outputs
    assert list(outputs) == [name for name, *_ in written]
    for (name, datatype, shape, elements), output in zip(written, outputs.values(), strict=True):
        assert output.dtype == DATATYPES[datatype].numpy, name
        assert list(output.shape) == shape
        assert output.flags.writeable
        assert output.dtype.isnative
        assert all(map(same, output.reshape(-1).tolist(), elements))


@given(st.sampled_from([one for one in NUMBERS if one != "FP16"]).flatmap(numbers))
def test_json_says_the_same(value: Any) -> None:
    """Numbers survive JSON exactly, NaN and infinities as the tokens that servers take."""
    head, values = sent(infer("m", {"x": value}, JSON))
    assert head["inputs"][0]["shape"] == list(value.shape)
    read = np.asarray(values["x"], value.dtype.newbyteorder("="))
    assert np.array_equal(read.reshape(value.shape), value, equal_nan=value.dtype.kind == "f")


def test_the_layout_is_the_protocols() -> None:
    """JSON first, its length in the header, then the bytes in the order of the inputs."""
    inputs = {
        "a": np.array([[1, -2]], np.int32),
        "flag": np.array([True, False]),
        "words": np.array(["hé", b"\x00\xff", ""], object),
        "half": np.array([1.5], np.float16),
    }
    call = infer("m", inputs, InferOptions(outputs=["y"], id="7", priority=1, version=2))
    length = int(call.headers["Inference-Header-Content-Length"])
    assert call.path == "/v2/models/m/versions/2/infer"
    assert json.loads(call.content[:length]) == {
        "id": "7",
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        "parameters": {"priority": 1},
        "inputs": [
            member("a", "INT32", [1, 2], 8),
            member("flag", "BOOL", [2], 2),
            member("words", "BYTES", [3], 17),
            member("half", "FP16", [1], 2),
        ],
    }
    assert call.content[length:] == (
        b"\x01\x00\x00\x00\xfe\xff\xff\xff"
        b"\x01\x00"
        b"\x03\x00\x00\x00h\xc3\xa9\x02\x00\x00\x00\x00\xff\x00\x00\x00\x00"
        b"\x00\x3e"
    )


def member(name: str, datatype: str, shape: list[int], size: int) -> dict[str, object]:
    """Return the JSON of a binary tensor."""
    parameters = {"binary_data_size": size}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def test_all_outputs_are_asked_for_in_binary_where_none_is_named() -> None:
    """The request says so once; in JSON nothing needs to be said."""
    x = {"x": np.zeros(1, np.float32)}
    assert sent(infer("m", x, InferOptions()))[0]["parameters"] == {"binary_data_output": True}
    assert list(sent(infer("m", x, JSON))[0]) == ["inputs"]
    named = sent(infer("m", x, InferOptions(outputs=["y"], binary=False)))[0]
    assert named["outputs"] == [{"name": "y"}]


@pytest.mark.parametrize(
    "value",
    [
        np.array(["a", "bé"]),
        np.array([b"a", "bé".encode()]),
        np.array(["a", "bé"], object),
        np.array(["a", "bé"], np.dtypes.StringDType()),
    ],
    ids=["U", "S", "O", "T"],
)
@pytest.mark.parametrize("options", [InferOptions(), JSON], ids=["binary", "json"])
def test_texts_in_every_kind_of_array(value: Any, options: InferOptions) -> None:
    """The four kinds of text arrays in numpy are one datatype on the wire."""
    head, values = sent(infer("m", {"x": value}, options))
    assert head["inputs"][0]["datatype"] == "BYTES"
    assert [one if isinstance(one, str) else one.decode() for one in values["x"]] == ["a", "bé"]


def test_bfloat16_is_sent_from_ml_dtypes_or_as_bits_and_arrives_as_float32() -> None:
    """Both forms are the same bytes, and float32 holds every bfloat16."""
    exact = np.array([[1.0, -2.5, 3.140625, math.inf]], np.float32)
    native = infer("m", {"x": exact.astype(ml_dtypes.bfloat16)}, InferOptions())
    bits = infer("m", {"x": BFloat16.from_float32(exact)}, InferOptions())
    assert native.content == bits.content
    head, values = sent(native)
    assert (head["inputs"][0]["datatype"], head["inputs"][0]["shape"]) == ("BF16", [1, 4])
    body, headers = frames.answer(("y", "BF16", [1, 4], values["x"]))
    output = read_infer(Reply(200, headers, body)).outputs["y"]
    assert output.dtype == np.float32
    assert np.array_equal(output, exact)


@given(st.floats(width=32))
def test_rounding_to_bfloat16(number: float) -> None:
    """Bits agree with ml_dtypes: nearest, ties to even, NaN stays NaN."""
    value = np.array([number], np.float32)
    ours = BFloat16.from_float32(value)
    theirs = value.astype(ml_dtypes.bfloat16)
    assert np.array_equal(ours.to_float32(), theirs.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        ([1.0, 2.0], JSON, "input 'x': expected a numpy array, got list"),
        (np.zeros(2, np.complex64), JSON, "complex64 has no datatype"),
        (np.array(["2020-01-01"], "M8[D]"), InferOptions(), "datetime64"),
        (np.array(["a", 3], object), InferOptions(), "element 1 is int"),
        (np.array([None], object), JSON, "element 0 is NoneType"),
        (np.array([b"\xff"], object), JSON, "binary=True"),
        (np.zeros(2, np.float16), JSON, "FP16 has no form in JSON, send it with binary=True"),
        (BFloat16(np.zeros(2, np.uint16)), JSON, "BF16 has no form in JSON"),
    ],
)
def test_what_has_no_form_is_refused_before_it_is_sent(
    value: Any, options: InferOptions, text: str
) -> None:
    """The text names the input and what it is."""
    with pytest.raises(InvalidInput) as caught:
        infer("m", {"x": value}, options)
    assert text in str(caught.value)
    assert "'x'" in str(caught.value)


def reply(outputs: object, blob: bytes = b"", **headers: str) -> Reply:
    """Return an infer answer whose JSON ends where the blob begins."""
    head = json.dumps({"model_name": "m", "model_version": "1", "outputs": outputs}).encode()
    length = {"inference-header-content-length": str(len(head))} if blob else {}
    return Reply(200, {**length, **headers}, head + blob)


def output(datatype: str, shape: object, **members: object) -> dict[str, object]:
    """Return one output's JSON."""
    return {"name": "y", "datatype": datatype, "shape": shape, **members}


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "wanted"),
    [
        ("FP32", [1, 2], [0.5, None], np.array([[0.5, np.nan]], np.float32)),
        ("FP64", [2, 1], [[1], [2.5]], np.array([[1.0], [2.5]])),
        ("INT64", [1], [2**62 + 1], np.array([2**62 + 1])),
        ("UINT64", [1], [2**64 - 1], np.array([2**64 - 1], np.uint64)),
        ("BOOL", [2], [True, False], np.array([True, False])),
        ("BYTES", [2], ["é", ""], np.array(["é".encode(), b""], object)),
        ("FP32", [], 3.5, np.array(3.5, np.float32)),
        ("INT8", [0, 4], [], np.zeros((0, 4), np.int8)),
    ],
)
def test_answers_in_json(datatype: str, shape: list[int], data: object, wanted: Any) -> None:
    """Flat or nested, with null for what JSON cannot say, texts as bytes."""
    found = read_infer(reply([output(datatype, shape, data=data)]))["y"]
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert all(map(same, found.reshape(-1).tolist(), wanted.reshape(-1).tolist()))


def test_json_and_binary_outputs_may_be_mixed() -> None:
    """Only those with a size take bytes; an answer without bytes needs no header."""
    binary = output("INT16", [2], parameters={"binary_data_size": 4})
    plain = {**output("FP32", [1], data=[1.5]), "name": "z"}
    result = read_infer(reply([plain, binary], b"\x01\x00\x02\x00"))
    assert (result["z"].tolist(), result["y"].tolist()) == ([1.5], [1, 2])
    empty = output("FP32", [0], parameters={"binary_data_size": 0})
    assert read_infer(reply([empty]))["y"].shape == (0,)


def test_tokens_of_other_servers_are_read() -> None:
    """Triton writes NaN and Infinity into its JSON."""
    body = (
        b'{"model_name": "m", "model_version": null, "id": "4", "outputs": [{"name": "y", '
        b'"datatype": "FP32", "shape": [3], "data": [NaN, -Infinity, 1]}]}'
    )
    result = read_infer(Reply(200, {}, body))
    assert (result.model_name, result.model_version, result.id) == ("m", "", "4")
    assert np.array_equal(result["y"], [np.nan, -np.inf, 1], equal_nan=True)


SIZED = {"parameters": {"binary_data_size": 4}}


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (Reply(200, {}, b"<html>"), "no JSON"),
        (Reply(200, {}, b"[]"), "expected an object"),
        (Reply(200, {}, b"{}"), "outputs: expected an array"),
        (reply([3]), "expected an object"),
        (reply([output("FP32", [2], data=[1])]), "1 elements for shape [2]"),
        (reply([output("FP8", [1], data=[1])]), "unknown datatype 'FP8'"),
        (reply([output("FP32", [-1], data=[1])]), "shape is [-1]"),
        (reply([output("FP32", None, data=[1])]), "shape is None"),
        (reply([output("FP32", [1], data=["1"])]), "no FP32"),
        (reply([output("INT32", [1], data=[1.5])]), "no INT32"),
        (reply([output("INT8", [1], data=[300])]), "300"),
        (reply([output("FP32", [1], parameters=[])]), "0 elements"),
        (reply([output("FP32", [1], parameters=[1])]), "parameters"),
        (reply([output("FP32", [1], **SIZED)]), "4 bytes announced, 0 are left"),
        (reply([output("FP32", [2], **SIZED)], b"1234"), "1 elements for shape [2]"),
        (reply([output("FP32", [1], **SIZED)], b"12345"), "1 bytes follow"),
        (reply([output("FP64", [1], **SIZED)], b"1234"), "0.5 elements"),
        (reply([output("BYTES", [1], **SIZED)], b"\x01\x00\x00\x00"), "an element of 1 bytes"),
        (reply([output("BYTES", [1], parameters={"binary_data_size": 2})], b"\0\0"), "length"),
        (reply([], b"", **{"inference-header-content-length": "9999"}), "9999"),
        (reply([], b"", **{"inference-header-content-length": "-1"}), "-1"),
        (reply([output("FP32", [1], parameters={"binary_data_size": -4})], b"1234"), "-4"),
        (reply([output("FP32", [1], parameters={"binary_data_size": "4"})], b"1234"), "'4'"),
    ],
)
def test_answers_that_contradict_themselves(broken: Reply, text: str) -> None:
    """What cannot be read is one error of the client's own, which says why."""
    with pytest.raises(BadAnswer) as caught:
        read_infer(broken)
    assert text in str(caught.value)
