"""What `service.answers` promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from service.answers import answers, plain
from service.contract import Contract, OutputContract
from service.errors import EngineFailure
from service.tensors import DATATYPES, Tensor
from tests.support.strategies import numbers

LABELS = ["red", "green", "blue"]
SCORES = st.floats(0, 1, width=32)


def contract(
    *shapes: list[int | str], axes: list[int | str] | None = None, **changes: object
) -> Contract:
    """Return a contract with an output a shape, called y0, y1 and so on."""
    members: dict[str, object] = {
        "task": "tensor",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": axes or ["n", 2]}],
        "outputs": [
            {"name": f"y{index}", "datatype": "FP32", "shape": shape}
            for index, shape in enumerate(shapes)
        ],
        "pipeline": {"kind": "tensor"},
        "batchable": False,
    }
    return Contract.model_validate(members | changes)


def classifier(
    shape: list[int | str], axes: list[int | str] | None = None, datatype: str = "FP32"
) -> Contract:
    """Return the contract of a classifier of three labels."""
    scores = OutputContract(name="y0", datatype=datatype, shape=shape)
    return contract(shape, axes=axes, task="classification", labels=LABELS, outputs=[scores])


def is_null(number: Any) -> bool:
    """Whether JSON has no form for a number."""
    return bool(number.dtype.kind == "f" and not np.isfinite(number))


def written(found: list[object]) -> Any:
    """Return the answers as a caller reads them."""
    return orjson.loads(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY))


@given(st.integers(0, 4).flatmap(lambda n: arrays.arrays(np.float32, (n, 3), elements=SCORES)))
def test_a_classifier_answers_with_its_best_label(scores: Tensor) -> None:
    """There is an answer a row, and its score is the largest of all."""
    found = written(answers(classifier(["n", 3]), {"y0": scores}, len(scores)))
    for answer, row in zip(found, scores, strict=True):
        assert list(answer) == ["label", "score", "scores"]
        assert list(answer["scores"]) == LABELS
        assert answer["scores"][answer["label"]] == answer["score"]
        assert answer["score"] == max(answer["scores"].values())
        assert np.array_equal(np.asarray(list(answer["scores"].values()), np.float32), row)


def test_of_equal_scores_the_first_wins() -> None:
    """The answer does not depend on chance."""
    scores = np.full((1, 3), 0.25, np.float32)
    (found,) = written(answers(classifier(["n", 3]), {"y0": scores}, 1))
    assert found == {"label": "red", "score": 0.25, "scores": dict.fromkeys(LABELS, 0.25)}


@pytest.mark.parametrize("datatype", [n for n in DATATYPES if n not in ("BOOL", "BYTES")])
def test_scores_of_every_number(datatype: str) -> None:
    """Whatever type the graph counts in, its scores can be written."""
    scores = np.asarray([[1, 3, 2]]).astype(DATATYPES[datatype].numpy)
    (found,) = written(answers(classifier(["n", 3], datatype=datatype), {"y0": scores}, 1))
    assert found == {"label": "green", "score": 3, "scores": {"red": 1, "green": 3, "blue": 2}}


def test_scores_as_onnx_runtime_counts_them() -> None:
    """Its INT64 is a type of numpy's that is no other name of int64."""
    scores = np.asarray([[1, 3, 2]], np.longlong)
    (found,) = written(answers(classifier(["n", 3], datatype="INT64"), {"y0": scores}, 1))
    assert found["score"] == 3


@pytest.mark.parametrize("axes", [["n", 2], [1, 2], [2]])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (1, 4), (2,), ()])
def test_scores_that_are_not_one_row_an_instance(
    shape: tuple[int, ...], axes: list[int | str]
) -> None:
    """A graph that answers another shape than it declares has failed; nobody gets a wrong label."""
    promised = classifier(["m", 3], axes=axes)
    with pytest.raises(EngineFailure, match=r"scores of shape \[.*\] for 3 labels"):
        answers(promised, {"y0": np.zeros(shape, np.float32)}, 1)


def test_a_classifier_without_a_batch_axis() -> None:
    """Its input is one instance as it is, and its scores are one row."""
    (found,) = answers(classifier([1, 3], axes=[2]), {"y0": np.asarray([[0, 0, 1]], np.float32)}, 1)
    assert written([found])[0]["label"] == "blue"


def test_only_one_output_is_the_row_itself() -> None:
    """A row of several numbers is a list, a row of one is the number."""
    value = np.asarray([[1, 2], [3, 4]], np.float32)
    assert written(answers(contract(["n", 2]), {"y0": value}, 2)) == [[1, 2], [3, 4]]
    assert written(answers(contract(["n"]), {"y0": value[:, 0]}, 2)) == [1, 3]


def test_several_outputs_are_an_object() -> None:
    """Each answer is keyed by output, auxiliary ones left out."""
    outputs = [
        {"name": name, "datatype": "FP32", "shape": ["n"], "auxiliary": name == "hidden"}
        for name in ("hidden", "a", "b")
    ]
    promised = contract(outputs=outputs)
    values = {name: np.asarray([1, 2], np.float32) for name in ("b", "hidden", "a")}
    assert written(answers(promised, values, 2)) == [{"a": 1, "b": 1}, {"a": 2, "b": 2}]
    alone = contract(outputs=outputs[:2])
    assert written(answers(alone, values, 2)) == [1, 2]


def test_an_output_without_a_batch_axis_belongs_to_every_row() -> None:
    """A scalar and an array of another length are repeated."""
    values = {
        "y0": np.asarray([1, 2], np.float32),
        "y1": np.asarray(7.0),
        "y2": np.arange(3),
    }
    found = written(answers(contract(["n"], [], [3]), values, 2))
    assert found == [{"y0": 1, "y1": 7, "y2": [0, 1, 2]}, {"y0": 2, "y1": 7, "y2": [0, 1, 2]}]


@pytest.mark.parametrize("found", [[], [[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]])
def test_without_a_batch_axis_the_outputs_stay_as_they_are(found: list[list[float]]) -> None:
    """How deep an answer is nested does not depend on how many boxes were found."""
    value = np.asarray(found, np.float32).reshape(-1, 2)
    assert written(answers(contract(["boxes", 2], axes=[2, 2]), {"y0": value}, 1)) == [found]
    both = answers(contract(["boxes", 2], [1], axes=[2, 2]), {"y0": value, "y1": np.ones(1)}, 1)
    assert written(both) == [{"y0": found, "y1": [1]}]


def test_a_number_is_written_in_its_own_precision() -> None:
    """0.1 in FP32 is 0.1, alone or among others, and a graph's INT64 may be numpy's longlong."""
    values = {"a": np.asarray([0.1], np.float32), "b": np.asarray([[0.1]], np.float32)}
    assert written(plain(values, ["a", "b"], 1)) == [{"a": 0.1, "b": [0.1]}]
    counted = np.asarray([7], np.longlong)
    assert written(plain({"a": counted, "b": counted[None]}, ["a", "b"], 1)) == [{"a": 7, "b": [7]}]


def test_texts_are_texts() -> None:
    """One text a row, and several."""
    words = np.asarray([["a", "é"], ["", "c"]], object)
    assert written(plain({"y": words}, ["y"], 2)) == [["a", "é"], ["", "c"]]
    assert written(plain({"y": words[:, 0]}, ["y"], 2)) == ["a", ""]


@given(
    numbers().flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_side=0))),
    st.sampled_from([np.asarray, np.transpose]),
)
def test_every_tensor_can_be_written(value: Tensor, seen_as: Callable[[Tensor], Tensor]) -> None:
    """Any type, shape and order of memory becomes nested lists; NaN and infinities become null."""
    tensor = seen_as(value)
    found = written(plain({"y": tensor}, ["y"], len(tensor)))
    wanted = [None if is_null(number) else number for number in tensor.reshape(-1)]
    assert len(found) == len(tensor)
    # A number's text is as short as its type allows, so it is compared in that type.
    flat = np.asarray(found, object).reshape(-1)
    assert [None if one is None else tensor.dtype.type(one) for one in flat] == wanted
