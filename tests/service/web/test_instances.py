"""The quick road through V1's JSON: the same calls and the same refusals as the other."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.calls import calls_for
from service.contract import (
    Contract,
    ImagePipeline,
    InputContract,
    OutputContract,
    SequencePipeline,
    TextPipeline,
)
from service.errors import InvalidRequest, ServiceError
from service.pipeline import make_pipeline
from service.tokens import TokenizerConfig
from service.web.content import received
from service.web.skim import Skimmer
from service.web.v1 import decode_call
from tests.support.strategies import JSON

QUICK = Skimmer(smallest=0)
OTHER = Skimmer(smallest=1 << 40)
STRUCTURED = {b"content-type": b"application/cloudevents+json"}


def contract(pipeline: Any = None, **inputs: tuple[str, list[int | str]]) -> Contract:
    """Return a contract with these inputs, each a datatype and a shape."""
    given = [InputContract(name=n, datatype=d, shape=s) for n, (d, s) in inputs.items()]
    output = OutputContract(name="y", datatype="FP32", shape=["n", 1])
    fields: dict[str, Any] = {"pipeline": pipeline or {"kind": "tensor"}}
    return Contract(task="tensor", inputs=given, outputs=[output], batchable=False, **fields)


TABLES = [
    contract(x=(datatype, ["n", 2]))
    for datatype in ("FP32", "FP64", "FP16", "BF16", "INT64", "UINT64", "INT8", "UINT8", "BOOL")
]
CONTRACTS = [
    *TABLES,
    contract(x=("BYTES", ["n", 2])),
    contract(x=("FP32", ["n", "time", 2])),
    contract(x=("FP32", [2, 2])),
    contract(x=("INT64", ["n"])),
    contract(x=("FP32", ["n", 2]), y=("INT64", ["n"])),
    contract(
        ImagePipeline(height=2, width=2, channels=1, mean=[0.5], std=[2.0]),
        x=("FP32", ["n", 1, 2, 2]),
    ),
    contract(
        SequencePipeline(channels=2, mean=[0.0, 1.0], std=[1.0, 2.0], max_length=4),
        x=("FP32", ["n", "time", 2]),
        lengths=("INT64", ["n"]),
    ),
    contract(
        TextPipeline(tokenizer=TokenizerConfig(buckets=8, max_tokens=4)),
        x=("INT64", ["n", "time"]),
    ),
]


def outcome(
    raw: bytes,
    terms: Contract,
    skimmer: Skimmer,
    max_depth: int = 32,
    headers: dict[bytes, bytes] | None = None,
) -> object:
    """Return all that a model would get to see of a body, or the text of its refusal."""
    try:
        read = received(headers or {}, raw, max_depth=max_depth, skimmer=skimmer)
        assert isinstance(read.content, dict)
        call = decode_call(read.content, lambda: terms)
        pipeline = make_pipeline(terms)
        rows = [pipeline.parse(instance) for instance in call.instances]
        calls = calls_for(terms.input_specs, pipeline, rows)
    except ServiceError as error:
        return type(error), str(error)
    inputs = [
        {n: (v.dtype, v.shape, v.tolist(), v.tobytes()) for n, v in one.inputs.items()}
        for one in calls
    ]
    return repr(inputs), [one.rows for one in calls], call.whole, call.predictions


def check_alike(raw: bytes, max_depth: int = 32) -> None:
    """Check that every kind of model sees one thing, whichever road a body takes."""
    for terms in CONTRACTS:
        other = outcome(raw, terms, OTHER, max_depth)
        assert outcome(raw, terms, QUICK, max_depth) == other, terms


def quick(raw: bytes) -> Any:
    """Return what the quick road makes of a body, None where it leaves it to the other."""
    return QUICK.skim_instances(raw, max_depth=32)


NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-300, 300).map(float),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 1e308, 65520.0]),
)


@st.composite
def nestings(draw: st.DrawFn, numbers: st.SearchStrategy[Any] = NUMBERS) -> object:
    """Draw numbers in lists of equal lengths, now and then with one element that spoils them."""
    shape = draw(st.lists(st.integers(1, 3), max_size=3))
    odd = draw(st.sampled_from([None] * 6 + [True, "1", [1], [], {}]))
    spoilt = odd is not None

    def of(sizes: list[int]) -> object:
        if sizes:
            return [of(sizes[1:]) for _ in range(sizes[0])]
        if spoilt and draw(st.integers(0, 5)) == 0:
            return odd
        return draw(numbers)

    return of(shape)


ROWS = st.one_of(
    nestings(),
    nestings(st.integers(0, 255)),
    st.builds(lambda x: {"x": x}, nestings()),
    st.builds(lambda x, y: {"x": x, "y": y}, nestings(), nestings()),
    JSON,
)


@given(st.one_of(st.lists(ROWS, max_size=3), nestings()))
@example([[9007199254740993, 1.5], [1, 2]])
@example([[-0.0, 0], [True, 1]])
@example([[1.0, 2.5], [3, 1]])
@example([[[1, 2], [3, 4]], [[5, 6]]])
@example([[[1, None], [3, 4]], [[5, 6]]])
@example([[255, 256], [-1, 3.0]])
def test_instances_mean_the_same_on_both_roads(instances: object) -> None:
    """Arrays give the calls, and the texts of refusals, that nested lists give."""
    check_alike(json.dumps({"instances": instances}).encode())


@given(st.one_of(nestings(), st.builds(lambda x, y: {"x": x, "y": y}, nestings(), nestings())))
@example([[1, 2], [3, 4]])
@example({"x": [[1, 2], [3, 4]], "y": [1, 2]})
@example({"x": [], "y": [1, 2]})
def test_columns_mean_the_same_on_both_roads(inputs: object) -> None:
    """So do columns by name, a whole tensor and KServe's array."""
    check_alike(json.dumps({"inputs": inputs}).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b'\xef\xbb\xbf{"instances": [[1, 2]]}',
        b'{"instances": [[1, 2]]} x',
        b'{"instances": [[1, 2]], "instances": [[3, 4]]}',
        b'{"instances": [{"x": [1, 2], "x": [3, 4]}]}',
        b'{"instances": [[1, 2]], "[": "[[", "more": {"[": [1, ["["]]}}',
        b'{"instances": [[1, 2]], "id": "\\u005b"}',
        b'{"instances": [[1, 2], [1, [2]]]}',
        b'{"instances": [[1, [2]], [3, 4]]}',
        b'{"instances": [[1, 1e400]]}',
        b'{"instances": [[1, NaN], [2, 3]]}',
        b'{"instances": [[1, 99999999999999999999]]}',
        b'{"instances": [[-0, -0.0]]}',
        b'{"instances": [[1, 2], [3, 4]], "signature_name": [1]}',
        b'{"instances": 1}',
        b'{"instances": []}',
        b'{"instances": [[]]}',
        b'{"instances": [[], []]}',
        b'{"inputs": {}}',
        b'{"inputs": []}',
        b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}',
        (
            b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", '
            b'"data": {"instances": [[1, 2]]}}'
        ),
        b"[[1, 2]]",
        b"",
    ],
)
def test_bodies_on_which_parsers_differ(raw: bytes) -> None:
    """Marks, rests, hidden arrays and repeated members end as they do on the other road."""
    check_alike(raw)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6, 40])
def test_depth_is_bounded_alike(depth: int) -> None:
    """Both roads allow the same nesting, in instances and beside them."""
    for levels in (1, 2, 3, 4, 5, 31, 32, 33, 34, 500):
        nested = "[" * levels + "1" + "]" * levels
        for text in (
            f'{{"instances": {nested}}}',
            f'{{"instances": [{{"x": {nested}}}]}}',
            f'{{"inputs": {{"x": {nested}}}}}',
            f'{{"data": {{"instances": {nested}}}}}',
            f'{{"instances": [[1, 2]], "else": {nested}}}',
        ):
            check_alike(text.encode(), depth)


def test_rows_of_one_shape_are_views_of_one_array() -> None:
    """No list of numbers is made on the way."""
    rows = quick(b'{"instances": [[1, 2.5], [3, 4]]}')["instances"]
    assert [row.tolist() for row in rows] == [[1.0, 2.5], [3.0, 4.0]]
    assert all(isinstance(row, np.ndarray) and row.dtype == np.float64 for row in rows)
    assert rows[0].base is not None


def test_rows_of_other_shapes_and_rows_by_name_are_arrays_of_their_own() -> None:
    """Whole numbers keep all their bits, and what is no array of numbers stays what it is."""
    first, second, third = quick(
        b'{"instances": [[[1], [2]], {"x": [18446744073709551615], "y": 7}, ["a"]]}'
    )["instances"]
    assert (first.dtype, first.tolist()) == (np.int64, [[1], [2]])
    assert (second["x"].dtype, second["x"].tolist(), second["y"]) == (np.uint64, [2**64 - 1], 7)
    assert third == ["a"]


def test_one_row_that_is_not_plain_leaves_the_others_arrays() -> None:
    """The refusal of a null need not cost the reading of all other rows."""
    plain, odd = quick(b'{"instances": [[1, 2], [3, null]]}')["instances"]
    assert isinstance(plain, np.ndarray)
    assert odd == [3, None]


def test_columns_and_the_data_of_an_event_are_arrays() -> None:
    """TensorFlow Serving's columns, bare or by name, and CloudEvents take the quick road too."""
    bare = quick(b'{"inputs": [[1, 2], [3, 4]]}')["inputs"]
    named = quick(b'{"data": {"inputs": {"x": [[1.5], [2]], "y": [1, 2]}}}')["data"]["inputs"]
    assert bare.tolist() == [[1, 2], [3, 4]]
    assert named["x"].tolist() == [[1.5], [2.0]]
    assert named["y"] == [1, 2]


def test_an_event_as_body_means_the_same_on_both_roads() -> None:
    """The event around a request hides nothing of it."""
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    raw = json.dumps({**event, "data": {"instances": [[1, 2]]}}).encode()
    other = outcome(raw, TABLES[0], OTHER, headers=STRUCTURED)
    assert outcome(raw, TABLES[0], QUICK, headers=STRUCTURED) == other
    assert not (isinstance(other, tuple) and other[0] is InvalidRequest)
