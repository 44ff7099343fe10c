"""The V2 codec, alone."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest, NotBuilt, ServiceError
from service.tensors import DATATYPES, from_numpy
from service.web import wire
from service.web.wire import Form, InferCall


def request(**changes: object) -> dict[str, object]:
    """Return a good tensor of a request with some members changed; None removes one."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2], **changes}
    return {"inputs": [{key: v for key, v in tensor.items() if v is not None}]}


def wanted(**parameters: object) -> dict[str, object]:
    """Return a good request that wants one output with these parameters."""
    return {**request(), "outputs": [{"name": "y", "parameters": parameters}]}


def decode(value: object) -> wire.InferCall:
    """Decode a value that is JSON."""
    return wire.decode(json.dumps(value).encode())


def refusal(value: object) -> str:
    """Return the text with which a request is refused."""
    with pytest.raises(InvalidRequest) as caught:
        decode(value)
    return str(caught.value)


def outcome(body: bytes) -> wire.InferCall | ServiceError:
    """Return the call, or the error with which the body is refused."""
    try:
        return wire.decode(body)
    except ServiceError as error:
        return error


def test_flat_and_nested_data_are_the_same() -> None:
    """Data may be nested or flat, in row-major order."""
    flat = decode(request(shape=[2, 2], data=[1, 2, 3, 4])).inputs["x"]
    nested = decode(request(shape=[2, 2], data=[[1, 2], [3, 4]])).inputs["x"]
    assert flat.tolist() == nested.tolist() == [[1, 2], [3, 4]]
    assert flat.dtype == np.float32


def test_a_scalar_has_rank_0() -> None:
    """An empty shape asks for exactly one element."""
    assert decode(request(shape=[], data=[7])).inputs["x"].shape == ()


def test_an_empty_tensor_is_valid() -> None:
    """A zero in the shape means no elements."""
    assert decode(request(shape=[0, 4], data=[])).inputs["x"].shape == (0, 4)


def test_nan_tokens_and_null_are_nan() -> None:
    """What Triton's clients write for NaN and infinity is understood, and null is NaN."""
    values = decode(request(shape=[4], data=[math.nan, math.inf, -math.inf, None])).inputs["x"]
    assert np.isnan(values[[0, 3]]).all()
    assert values[1] == np.inf
    assert values[2] == -np.inf


def test_unknown_members_are_ignored() -> None:
    """KServe's client sends the model's name in the body; the path decides."""
    assert decode({**request(), "model_name": "other"}).inputs["x"].tolist() == [[1, 2]]


@pytest.mark.parametrize(("sent", "kept"), [("7", "7"), ("", None), (None, None)])
def test_id_is_kept_unless_empty(sent: str | None, kept: str | None) -> None:
    """An empty id means none."""
    assert decode({**request(), "id": sent}).id == kept


def test_timeout_counts_microseconds() -> None:
    """The parameter timeout becomes seconds, and 0 stands for none."""
    assert decode({**request(), "parameters": {"timeout": 1500}}).timeout == 0.0015
    assert decode({**request(), "parameters": {"timeout": 0}}).timeout is None


def test_outputs_are_named_once() -> None:
    """A duplicate among the wanted outputs is one output; an empty list means all."""
    assert decode({**request(), "outputs": [{"name": "y"}, {"name": "y"}]}).wanted == ("y",)
    assert decode({**request(), "outputs": []}).wanted is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1], ["body", "object", "array"]),
        ({}, ["inputs", "missing"]),
        ({"inputs": {}}, ["inputs", "array", "object"]),
        ({"inputs": [7]}, ["inputs[0]", "object", "number 7"]),
        (request(name=None), ["inputs[0].name", "missing"]),
        (request(name=""), ["inputs[0].name", "empty"]),
        (request(name=5), ["inputs[0].name", "string", "5"]),
        (request(datatype=None), ["'x'.datatype", "missing"]),
        (request(datatype="fp32"), ["'x'.datatype", "fp32", "FP32"]),
        (request(datatype="FP16"), ["'x'.datatype", "FP16", "binary"]),
        (request(shape=None), ["'x'.shape", "missing"]),
        (request(shape=2), ["'x'.shape", "array", "2"]),
        (request(shape=[-1, 2]), ["'x'.shape[0]", "-1"]),
        (request(shape=[1, "2"]), ["'x'.shape[1]", "'2'"]),
        (request(shape=[1, True]), ["'x'.shape[1]", "boolean"]),
        (request(shape=[1, 2.0]), ["'x'.shape[1]", "2.0"]),
        (request(shape=[2**62, 4]), ["'x'.shape", "beyond"]),
        (request(shape=[0, 2**62, 4], data=[]), ["'x'.shape", "beyond"]),
        (request(shape=[2**64, 1]), ["'x'.shape[0]"]),
        (request(shape=[1] * 33), ["'x'.shape", "33"]),
        (request(shape=[3, 2]), ["'x'", "[3, 2]", "6 elements", "2"]),
        (request(data=None), ["'x'.data", "missing"]),
        (request(data=5), ["'x'.data", "array", "5"]),
        (request(data=[1, "a"]), ["'x'.data[1]", "number", "string"]),
        (request(data=[1, True]), ["'x'.data[1]", "number", "boolean"]),
        (request(data=[[1], 2]), ["'x'.data", "ragged"]),
        (request(datatype="UINT8", data=[300, 0]), ["'x'.data", "300", "0..255"]),
        (request(datatype="INT64", data=[1.5, 0]), ["'x'.data", "1.5"]),
        (request(datatype="BOOL", data=[1, 0]), ["'x'.data[0]", "true or false"]),
        (request(datatype="BYTES", data=["a", 1]), ["'x'.data[1]", "string"]),
        (request(parameters=3), ["'x'.parameters", "object"]),
        ({**request(), "id": 5}, ["id", "string", "5"]),
        ({**request(), "parameters": []}, ["parameters", "object", "array"]),
        ({**request(), "parameters": {"a": [1]}}, ["parameters.a", "array"]),
        ({**request(), "parameters": {"timeout": -1}}, ["parameters.timeout", "-1"]),
        (
            {**request(), "parameters": {"timeout": 2**70}},
            ["parameters.timeout", "from 0 to 18446744073709551615, got the number 1180591620717"],
        ),
        ({**request(), "parameters": {"timeout": 1e300}}, ["got the number 1e+300"]),
        ({**request(), "parameters": {"timeout": "soon"}}, ["parameters.timeout", "'soon'"]),
        ({**request(), "parameters": {"priority": 1.5}}, ["parameters.priority", "1.5"]),
        ({**request(), "outputs": "y"}, ["outputs", "array", "string"]),
        ({**request(), "outputs": ["y"]}, ["outputs[0]", "object"]),
        ({**request(), "outputs": [{}]}, ["outputs[0].name", "missing"]),
        ({**request(), "parameters": {"binary_data_output": 1}}, ["binary_data_output", "1"]),
        (wanted(binary_data="true"), ["'y'.parameters.binary_data", "'true'"]),
        (wanted(classification=-1), ["'y'.parameters.classification", "-1"]),
        (wanted(classification=True), ["'y'.parameters.classification", "boolean"]),
        (wanted(classification="3"), ["'y'.parameters.classification", "'3'"]),
    ],
)
def test_wrong_fields_are_named_with_their_value(value: object, words: list[str]) -> None:
    """A refusal names the field and what was seen there."""
    text = refusal(value)
    assert [word for word in words if word not in text] == []


def test_parameters_of_other_servers_are_ignored() -> None:
    """Sequences, priorities and words of one's own change nothing for a model without state."""
    known = {"priority": 2, "sequence_id": 7, "sequence_start": True, "sequence_end": False}
    call = decode({**request(), "parameters": {**known, "mine": "a", "half": 0.5, "none": None}})
    assert call == InferCall(None, call.inputs)


def test_forms_of_outputs() -> None:
    """A listed output is JSON unless it says binary itself; the request's word is for the rest."""
    call = decode({**request(), "parameters": {"binary_data_output": True}})
    assert call.form("any") == Form(binary=True)
    parameters = {"binary_data": True, "classification": 3}
    listed = [{"name": "a"}, {"name": "b", "parameters": parameters}]
    call = decode({**request(), "parameters": {"binary_data_output": True}, "outputs": listed})
    assert call.wanted == ("a", "b")
    assert call.form("a") == Form()
    assert call.form("b") == Form(binary=True, classes=3)


def test_a_name_given_twice_is_refused() -> None:
    """Two inputs of one name would leave it open which is meant."""
    tensor = request()["inputs"]
    assert isinstance(tensor, list)
    assert "'x' is given twice" in refusal({"inputs": [*tensor, *tensor]})


@pytest.mark.parametrize(
    "value",
    [
        request(data=None, parameters={"shared_memory_region": "r"}),
        {**request(), "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
    ],
)
def test_extensions_that_are_not_built_say_so(value: object) -> None:
    """What other servers know and this one lacks is no fault of the request."""
    with pytest.raises(NotBuilt, match="not built"):
        decode(value)


def test_deep_nesting_is_refused_before_it_is_walked() -> None:
    """The limit holds in every part of the body, known or not."""
    deep = b'{"inputs": [], "else": ' + b"[" * 40 + b"]" * 40 + b"}"
    with pytest.raises(InvalidRequest, match="32 levels"):
        wire.decode(deep)
    with pytest.raises(InvalidRequest, match=r"depth|levels"):
        wire.decode(b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_call_or_an_error_of_ours(body: bytes) -> None:
    """No body gets past the codec with anything but a result or a ServiceError."""
    assert isinstance(outcome(body), wire.InferCall | InvalidRequest | NotBuilt)


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_ANY = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)
_TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "y"]) | _ANY,
        "datatype": st.sampled_from(sorted(DATATYPES)) | _ANY,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | _ANY,
        "data": st.lists(_SCALARS, max_size=6) | _ANY,
        "parameters": _ANY,
    },
)
_REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(_TENSOR | _ANY, max_size=3) | _ANY},
    optional={
        "id": _ANY,
        "parameters": st.dictionaries(st.sampled_from(["timeout", "priority"]), _ANY) | _ANY,
        "outputs": st.lists(_TENSOR | _ANY, max_size=2) | _ANY,
    },
)


@given(_REQUEST)
def test_any_request_is_a_call_or_an_error_of_ours(value: object) -> None:
    """Almost right requests too end in a result or an error that names something."""
    found = outcome(json.dumps(value).encode())
    if isinstance(found, wire.InferCall):
        assert all(from_numpy(tensor.dtype) is not None for tensor in found.inputs.values())
    else:
        assert str(found)
