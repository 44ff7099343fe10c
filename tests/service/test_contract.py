"""What `service.contract` promises."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.contract import Contract, InputContract, Manifest
from service.tensors import DATATYPES, TensorSpec
from tests.support.strategies import JSON

HASH = "0" * 64
BATCH = {"name": "x", "datatype": "FP32", "shape": ["batch", 2]}
PLAIN: dict[str, Any] = {
    "task": "tensor",
    "inputs": [BATCH],
    "outputs": [{**BATCH, "name": "y"}],
    "pipeline": {"kind": "tensor"},
    "batchable": True,
}
BATCH_OF_TIME = {"name": "x", "datatype": "FP32", "shape": ["batch", "time"]}
LENGTHS = {"name": "n", "datatype": "INT64", "shape": ["batch"], "maximum_axis": "time"}
CLASSIFIER = {**PLAIN, "task": "classification", "labels": ["no", "yes"]}
PICTURE = {"kind": "image", "height": 2, "width": 2, "channels": 1, "mean": [0], "std": [1]}
SERIES = {"kind": "sequence", "channels": 2, "mean": [0, 0], "std": [1, 1], "max_length": 8}
TEXT = {"kind": "text", "tokenizer": {"buckets": 8}}
FILES = {"model.onnx": {"sha256": HASH, "bytes": 1}}
MANIFEST = {**PLAIN, "schema_version": 1, "producer": {}, "files": FILES, "digest": HASH}


def refusal(value: dict[str, Any], kind: type[Contract] = Contract) -> str:
    """Return where a contract is wrong, and why."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate_json(as_json(value))
    first = caught.value.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def as_json(value: object) -> bytes:
    """Return a value as bundle.json would hold it."""
    return json.dumps(value).encode()


def output(**changes: object) -> dict[str, object]:
    """Return the good output with some members changed."""
    return {"name": "y", "datatype": "FP32", "shape": ["batch", 2], **changes}


def pipeline(kind: Mapping[str, object], **changes: object) -> dict[str, object]:
    """Return a contract with a pipeline, and the inputs that it makes."""
    wanted = {"image": ["FP32"], "sequence": ["FP32", "INT64"], "text": ["INT64"]}
    inputs = [
        {"name": f"in{index}", "datatype": datatype, "shape": ["batch"]}
        for index, datatype in enumerate(wanted[str(kind["kind"])])
    ]
    return {**PLAIN, "inputs": inputs, "pipeline": {**kind, **changes}}


@pytest.mark.parametrize(
    "value", [PLAIN, CLASSIFIER, pipeline(PICTURE), pipeline(SERIES), pipeline(TEXT)]
)
def test_a_contract_survives_as_json(value: dict[str, Any]) -> None:
    """What was written is read as the same value, for every kind of pipeline."""
    contract = Contract.model_validate_json(as_json(value))
    assert Contract.model_validate_json(contract.model_dump_json()) == contract
    assert contract.pipeline.kind == value["pipeline"]["kind"]


def test_a_bound_by_an_axis_is_written_only_where_there_is_one() -> None:
    """A bundle from before there were any keeps its canonical form, and so its digest."""
    assert "maximum_axis" not in Contract.model_validate_json(as_json(PLAIN)).model_dump_json()
    bounded = Contract.model_validate_json(as_json({**PLAIN, "inputs": [BATCH_OF_TIME, LENGTHS]}))
    assert bounded.model_dump()["inputs"][1]["maximum_axis"] == "time"
    assert bounded.input_specs[1].maximum_axis == "time"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"task": "guessing"}, "task: Input should be"),
        ({"inputs": []}, "inputs: List should have at least 1 item"),
        ({"outputs": []}, "outputs: List should have at least 1 item"),
        ({"batchable": 1}, "batchable: Input should be a valid boolean"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"pipeline": {"kind": "sound"}}, "pipeline: Input tag 'sound'"),
        ({"pipeline": {}}, "pipeline: Unable to extract tag"),
        ({"inputs": [{**BATCH, "name": ""}]}, "inputs.0.name: "),
        ({"inputs": [{**BATCH, "shape": [1.5]}]}, "inputs.0.shape.0"),
        ({"inputs": [{**BATCH, "shape": [True]}]}, "inputs.0.shape.0"),
        ({"inputs": [{**BATCH, "minimum": "0"}]}, "inputs.0.minimum: "),
        ({"outputs": [output(atol=-1)]}, "outputs.0.atol: "),
        ({"inputs": [BATCH, BATCH]}, "two inputs share a name: ['x', 'x']"),
        ({"outputs": [output(), output()]}, "two outputs share a name: ['y', 'y']"),
        ({"inputs": [{**BATCH, "datatype": "FP8"}]}, "input 'x': unknown datatype FP8"),
        ({"outputs": [output(datatype="fp32")]}, "output 'y': unknown datatype fp32"),
        (
            {"inputs": [{**BATCH, "shape": [1, 2]}]},
            "input 'x': a batchable model needs a variable first axis, not [1, 2]",
        ),
        (
            {"inputs": [BATCH, LENGTHS]},
            "input 'n': maximum_axis 'time' is no axis of another input",
        ),
        (
            {"inputs": [BATCH_OF_TIME, {**LENGTHS, "datatype": "FP32"}]},
            "input 'n': maximum_axis bounds whole numbers only",
        ),
        ({"outputs": [output(shape=[])]}, "output 'y': a batchable model needs"),
        ({"outputs": [output(auxiliary=True)]}, "every output is auxiliary"),
    ],
)
def test_contracts_that_cannot_hold(changes: dict[str, object], text: str) -> None:
    """The error names the part and the value seen."""
    assert text in refusal({**PLAIN, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"labels": None}, "two or more different labels, got []"),
        ({"labels": ["one"]}, "two or more different labels, got ['one']"),
        ({"labels": ["a", "a"]}, "two or more different labels, got ['a', 'a']"),
        ({"labels": ["a", "b", "c"]}, "shape ['batch', 2], not rows of scores for 3 labels"),
        ({"outputs": [output(shape=["batch"])]}, "output 'y' has shape ['batch'], not rows"),
        ({"outputs": [output(shape=["batch", "n"])]}, "['batch', 'n'], not rows of scores"),
        ({"outputs": [output(shape=[5, 2])], "batchable": False}, "[5, 2], not rows of scores"),
        ({"outputs": [output(shape=[])], "batchable": False}, "[], not rows of scores"),
        ({"outputs": [output(datatype="BYTES")]}, "output 'y' is BYTES, scores are numbers"),
        ({"outputs": [output(datatype="BOOL")]}, "output 'y' is BOOL, scores are numbers"),
    ],
)
def test_classifiers_that_cannot_answer(changes: dict[str, object], text: str) -> None:
    """A label needs a score of its own, in a row for each instance."""
    assert text in refusal({**CLASSIFIER, **changes})


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "UINT8", "INT64"])
@pytest.mark.parametrize("first", ["batch", -1, 1])
def test_scores_of_any_number_and_batch_axis(datatype: str, first: int | str) -> None:
    """A graph for one row at a time and one with whole numbers for scores are classifiers too."""
    scores = output(datatype=datatype, shape=[first, 2])
    value = {**CLASSIFIER, "outputs": [scores], "batchable": False}
    assert Contract.model_validate_json(as_json(value)).answer.datatype == datatype


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pipeline(PICTURE, height=0), "height: Input should be greater than 0"),
        (pipeline(PICTURE, width=2**31), "width: Input should be less than or equal to 2147483647"),
        (pipeline(PICTURE, channels=2), "channels: Input should be 1 or 3"),
        (pipeline(PICTURE, mean=[0, 0]), "mean has 2 values for 1 channels"),
        (pipeline(PICTURE, std=[]), "std has 0 values for 1 channels"),
        (pipeline(PICTURE, std=[0]), "std.0: Input should be greater than 0"),
        (pipeline(PICTURE, gamma=2), "gamma: Extra inputs are not permitted"),
        (pipeline(SERIES, channels=3), "mean has 2 values for 3 channels"),
        (pipeline(SERIES, std=[1, -1]), "std.1: Input should be greater than 0"),
        (pipeline(SERIES, channels=0), "channels: Input should be greater than 0"),
        (pipeline(SERIES, max_length=0), "max_length: Input should be greater than 0"),
        (pipeline(TEXT, tokenizer={"buckets": 0}), "buckets is 0: must be at least 1"),
        (pipeline(TEXT, tokenizer={"words": 1}), "words: Unexpected keyword argument"),
        (
            {**pipeline(SERIES), "inputs": [BATCH]},
            "pipeline 'sequence' makes inputs ['FP32', 'INT64'], not ['FP32']",
        ),
        (
            {**PLAIN, "pipeline": TEXT},
            "pipeline 'text' makes inputs ['INT64'], not ['FP32']",
        ),
    ],
)
def test_pipelines_that_cannot_work(value: dict[str, Any], text: str) -> None:
    """Sizes, scales and the tensors that a pipeline makes must fit each other."""
    assert text in refusal(value)


def test_the_answer_is_the_first_output_that_is_not_auxiliary() -> None:
    """Attention weights may stand before the scores."""
    weights = output(name="weights", shape=["batch", 9], auxiliary=True)
    value = {**CLASSIFIER, "outputs": [weights, output(), output(name="z")]}
    contract = Contract.model_validate_json(as_json(value))
    assert contract.answer.name == "y"
    assert [spec.name for spec in contract.output_specs] == ["weights", "y", "z"]


def test_specs_are_what_requests_are_checked_against() -> None:
    """Shape and bounds are kept, in the graph's order."""
    ids = {"name": "ids", "datatype": "INT64", "shape": ["batch", -1], "minimum": 0, "maximum": 9}
    contract = Contract.model_validate_json(as_json({**PLAIN, "inputs": [ids, BATCH]}))
    assert contract.input_specs == (
        TensorSpec("ids", "INT64", ("batch", -1), minimum=0, maximum=9),
        TensorSpec("x", "FP32", ("batch", 2), finite=True),
    )
    assert contract.output_specs == (TensorSpec("y", "FP32", ("batch", 2)),)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_only_floats_can_be_other_than_finite(datatype: str) -> None:
    """Finite is the default and means nothing for whole numbers and texts."""
    strict = InputContract(name="x", datatype=datatype, shape=[1])
    assert strict.spec().finite is DATATYPES[datatype].is_float
    assert not strict.model_copy(update={"finite": False}).spec().finite


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        (
            {"outputs": [output(datatype="seq(tensor(float))")], "batchable": False},
            "output 'y': a bundle cannot hold seq(tensor(float))",
        ),
        ({"inputs": [{**BATCH, "optional": True}]}, "input 'x': a bundle cannot hold optional"),
        ({"producer": {"onnxport": 1}}, "producer.onnxport: "),
        ({"digest": "F" * 64}, "digest: String should match pattern"),
        ({"digest": HASH[:-1]}, "digest: String should match pattern"),
        ({"files": {}}, "files does not list model.onnx"),
        ({"files": {"model.onnx": {"sha256": HASH}}}, "files.model.onnx.bytes: Field required"),
        ({"files": {"model.onnx": {"sha256": HASH, "bytes": -1}}}, "files.model.onnx.bytes: "),
    ],
)
def test_manifests_that_cannot_hold(changes: dict[str, object], text: str) -> None:
    """The list of files is complete, and every hash is one."""
    assert text in refusal({**MANIFEST, **changes}, Manifest)


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../x", "a//b", "a/", ".x", "a/.x", "a\\b", "a\0"]
)
def test_a_listed_file_stays_in_the_bundle(name: str) -> None:
    """Absolute paths, steps upwards and hidden names are refused."""
    value = {**MANIFEST, "files": {**FILES, name: FILES["model.onnx"]}}
    assert f"file name {name!r} leaves the bundle or is hidden" in refusal(value, Manifest)


@pytest.mark.parametrize("name", ["explain/explain.onnx", "a.b/c..d", "ä"])
def test_other_names_are_fine(name: str) -> None:
    """Files may lie in folders, and only the first character hides."""
    value = {**MANIFEST, "files": {**FILES, name: FILES["model.onnx"]}}
    assert name in Manifest.model_validate_json(as_json(value)).files


@given(st.sampled_from(list(MANIFEST)), JSON)
def test_any_member_is_taken_or_refused(member: str, value: object) -> None:
    """A manifest from a stranger never ends in another error."""
    try:
        manifest = Manifest.model_validate_json(as_json({**MANIFEST, member: value}))
    except ValidationError:
        return
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
