"""Infer answers as bytes, alone."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.inference import Prediction
from service.tensors import BFLOAT16, DATATYPES, Tensor
from service.web import wire
from service.web.response import encode
from service.web.wire import Form, InferCall
from tests.support.fakes import TIMINGS
from tests.support.infer import LENGTH, blob_of, read_answer
from tests.support.strategies import tensors

JSON_DATATYPES = [name for name in DATATYPES if name not in ("FP16", "BF16")]
CALL = InferCall(None, {})
BINARY = InferCall(None, {}, default=Form(binary=True))


def prediction(**outputs: Tensor) -> Prediction:
    """Return what the runtime answers with these outputs."""
    return Prediction("tiny", 3, dict(outputs), 1, TIMINGS)


@given(st.data(), st.sampled_from(JSON_DATATYPES))
def test_tensors_survive_the_way_there_and_back(data: st.DataObject, datatype: str) -> None:
    """What encode writes, decode reads: shape, type and every value, NaN for what is not finite."""
    sent = data.draw(tensors(datatype))
    answer = orjson.loads(encode(InferCall("7", {}), prediction(x=sent)).body)
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tiny", "3", "7")
    (tensor,) = answer["outputs"]
    assert isinstance(tensor["data"], list)
    back = wire.decode(json.dumps({"inputs": [tensor]}).encode()).inputs["x"]
    expected = np.where(np.isfinite(sent), sent, np.nan) if sent.dtype.kind == "f" else sent
    np.testing.assert_array_equal(back, expected, strict=True)


def test_no_id_is_invented() -> None:
    """An answer to a call without an id has none."""
    assert "id" not in orjson.loads(encode(CALL, prediction()).body)


def test_a_view_with_gaps_is_written_in_order() -> None:
    """A transposed output is written as its logical rows, in both forms."""
    sent = np.arange(6).reshape(2, 3).T
    answer = orjson.loads(encode(CALL, prediction(x=sent)).body)
    assert answer["outputs"][0]["shape"] == [3, 2]
    assert answer["outputs"][0]["data"] == [0, 3, 1, 4, 2, 5]
    assert encode(BINARY, prediction(x=sent)).body.endswith(blob_of(np.ascontiguousarray(sent)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros(1, np.float16), "FP16.*binary_data"),
        (np.zeros(1, BFLOAT16), "BF16.*binary_data"),
        (np.asarray([b"\xff"], object), "UTF-8"),
        (np.zeros(1, np.complex64), "complex64"),
    ],
)
def test_outputs_without_a_form_in_json_are_named(value: Tensor, words: str) -> None:
    """Half precision and bytes that are no text can only travel in binary, others not at all."""
    with pytest.raises(InvalidRequest, match=f"output 'x'.*{words}"):
        encode(CALL, prediction(x=value))


def test_forms_can_be_mixed() -> None:
    """Binary outputs follow the JSON in the order in which the answer lists them."""
    sent = {
        "a": np.asarray([[1.5, np.nan]], np.float16),
        "b": np.asarray([1, 2]),
        "c": np.asarray([b"\xff\x00", "héllo", b""], object),
    }
    forms = {"c": Form(binary=True), "b": Form(), "a": Form(binary=True)}
    answer = encode(InferCall("7", {}, forms), prediction(**sent))
    assert answer.json_bytes is not None
    assert answer.body[answer.json_bytes :] == blob_of(sent["a"]) + blob_of(sent["c"])
    listed = json.loads(answer.body[: answer.json_bytes])["outputs"]
    assert [output["name"] for output in listed] == ["a", "b", "c"]
    assert [set(output) - {"name", "datatype", "shape"} for output in listed] == [
        {"parameters"},
        {"data"},
        {"parameters"},
    ]
    read = read_answer(answer.body, {LENGTH: str(answer.json_bytes)})
    assert read["a"].tobytes() == sent["a"].tobytes()
    assert read["b"].tolist() == [1, 2]
    assert read["c"].tolist() == [b"\xff\x00", "héllo".encode(), b""]


def test_binary_outputs_without_bytes_need_no_header() -> None:
    """Where nothing stands behind the JSON it is plain JSON, which says that the sizes are 0."""
    answer = encode(BINARY, prediction(x=np.zeros((0, 2), np.float32), y=np.empty(0, object)))
    assert answer.json_bytes is None
    sizes = [output["parameters"] for output in json.loads(answer.body)["outputs"]]
    assert sizes == [{"binary_data_size": 0}] * 2


@pytest.mark.parametrize("binary", [True, False])
def test_best_classes_replace_the_numbers(*, binary: bool) -> None:
    """A classified output is BYTES, in either form, with the labels that the answer brings."""
    call = InferCall(None, {}, {"y": Form(binary=binary, classes=1)})
    outputs = {"y": np.asarray([[0.25, 0.75]], np.float32)}
    found = Prediction("tiny", 1, outputs, 1, TIMINGS, {"y": ["ham", "spam"]})
    answer = encode(call, found)
    headers = {} if answer.json_bytes is None else {LENGTH: str(answer.json_bytes)}
    (text,) = read_answer(answer.body, headers)["y"].reshape(-1).tolist()
    assert text == (b"0.750000:1:spam" if binary else "0.750000:1:spam")
