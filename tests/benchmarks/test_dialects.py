"""Requests and answers of each kind of server."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.checks import difference, require_distinct
from benchmarks.dialects import (
    Request,
    framed,
    named_json,
    read_framed,
    read_named,
    read_v2,
    v2_binary,
    v2_json,
)
from benchmarks.errors import BenchmarkError
from benchmarks.models import Batch

KINDS: list[np.dtype[Any]] = [np.dtype(np.float32), np.dtype(np.int64)]
BATCH: Batch = {
    "x": np.asarray([[1.5, -2.0]], np.float32),
    "ids": np.asarray([[7]], np.int64),
}


def test_a_request_travels_with_its_length_and_address() -> None:
    """The bytes are complete HTTP/1.1."""
    wire = Request("/m", b"abc", {"Content-Type": "text/plain"}).wire(80)
    assert wire == (
        b"POST /m HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 3\r\n\r\nabc"
    )


def test_v2_json_has_flat_data_with_shape_and_datatype() -> None:
    """As clients of the protocol send it."""
    request = v2_json("m", BATCH)
    assert request.path == "/v2/models/m/infer"
    assert orjson.loads(request.body)["inputs"] == [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, -2.0]},
        {"name": "ids", "shape": [1, 1], "datatype": "INT64", "data": [7]},
    ]


def test_v2_binary_has_its_tensors_behind_the_json() -> None:
    """The header says where they begin."""
    request = v2_binary("m", BATCH)
    end = int(request.headers["Inference-Header-Content-Length"])
    head = orjson.loads(request.body[:end])
    assert [each["parameters"]["binary_data_size"] for each in head["inputs"]] == [8, 8]
    assert request.body[end:] == BATCH["x"].tobytes() + BATCH["ids"].tobytes()


def test_v2_asks_for_the_outputs_that_are_wanted_in_its_encoding() -> None:
    """And for all of them by naming none."""
    assert "outputs" not in orjson.loads(v2_json("m", BATCH).body)
    assert orjson.loads(v2_json("m", BATCH, ["y"]).body)["outputs"] == [{"name": "y"}]
    request = v2_binary("m", BATCH, ["y"])
    head = request.body[: int(request.headers["Inference-Header-Content-Length"])]
    expected = [{"name": "y", "parameters": {"binary_data": True}}]
    assert orjson.loads(head)["outputs"] == expected


def test_v2_answers_are_read_in_either_encoding() -> None:
    """Also both in one answer, and with parameters that are null."""
    head = orjson.dumps(
        {
            "outputs": [
                {"name": "a", "shape": [1, 1], "datatype": "FP32", "data": [2], "parameters": None},
                {
                    "name": "b",
                    "shape": [2],
                    "datatype": "INT64",
                    "parameters": {"binary_data_size": 16},
                },
            ]
        }
    )
    body = head + np.asarray([3, 4], np.int64).tobytes()
    outputs = read_v2({"inference-header-content-length": str(len(head))}, body)
    assert outputs["a"].tolist() == [[2.0]]
    assert outputs["b"].tolist() == [3, 4]


def test_named_json_nests_its_lists() -> None:
    """And is read back the same way."""
    request = named_json("m", BATCH)
    assert orjson.loads(request.body) == {"inputs": {"x": [[1.5, -2.0]], "ids": [[7]]}}
    assert read_named({}, b'{"outputs": {"y": [[1]]}}')["y"].tolist() == [[1.0]]


@given(
    arrays.arrays(
        st.sampled_from(KINDS),
        arrays.array_shapes(max_dims=4, max_side=4),
    )
)
def test_any_tensor_survives_a_frame(value: np.ndarray) -> None:
    """Bit for bit, beside another."""
    outputs = read_framed({}, framed("m", {"first": value, "second": BATCH["x"]}).body)
    assert outputs["first"].tobytes() == value.tobytes()
    assert outputs["first"].shape == value.shape
    assert outputs["first"].dtype == value.dtype
    assert outputs["second"].tolist() == BATCH["x"].tolist()


def test_what_is_no_frame_is_refused() -> None:
    """With its beginning."""
    with pytest.raises(ValueError, match="<html>"):
        read_framed({}, b"<html>oops</html>")


@pytest.mark.parametrize(
    ("got", "text"),
    [
        ({"y": np.asarray([[1.0]])}, "is missing"),
        ({"x": np.asarray([1.5, -2.0])}, "has shape"),
        ({"x": np.asarray([[1.5, -2.1]])}, "differs by up to 0.1"),
    ],
)
def test_a_wrong_answer_is_told_in_words(got: Batch, text: str) -> None:
    """Name, shape or value."""
    assert text in difference(got, {"x": BATCH["x"]})


def test_rounding_is_no_difference() -> None:
    """Batches of other sizes round in other ways."""
    assert not difference({"x": BATCH["x"] * (1 + 1e-5)}, {"x": BATCH["x"]})


def test_samples_with_one_answer_are_refused() -> None:
    """They could not show that an answer went to the wrong caller."""
    with pytest.raises(BenchmarkError, match="'m': two samples have the same answer"):
        require_distinct("m", [{"x": BATCH["x"]}, {"x": BATCH["x"]}])
