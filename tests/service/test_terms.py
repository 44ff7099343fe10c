"""What a live model asks of a call, worked out from its contract."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from service.contract import Contract, InputContract, OutputContract, TensorPipeline
from service.errors import InvalidRequest
from service.terms import Terms

ONE = {"y": "FP32"}


def terms(
    *shapes: list[int | str], batchable: bool = True, outputs: Mapping[str, str] = ONE
) -> Terms:
    """Return the terms of a graph with inputs of these shapes."""
    contract = Contract(
        task="tensor",
        inputs=[
            InputContract(name=name, datatype="FP32", shape=shape)
            for name, shape in zip("abc", shapes, strict=False)
        ],
        outputs=[
            OutputContract(name=name, datatype=datatype, shape=["n"])
            for name, datatype in outputs.items()
        ],
        pipeline=TensorPipeline(),
        batchable=batchable,
    )
    return Terms.of(contract)


def zeros(*shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return inputs of these shapes."""
    return dict(zip("abc", (np.zeros(shape, np.float32) for shape in shapes), strict=False))


def test_the_rows_of_a_call() -> None:
    """They are counted along the first axis that may have any size; without one a call is a row."""
    assert terms(["n", 2]).count_rows(zeros((3, 2))) == 3
    assert terms([-1, 2]).count_rows(zeros((0, 2))) == 0
    assert terms([4], ["n"], batchable=False).count_rows(zeros((4,), (3,))) == 3
    assert terms([4], [], batchable=False).count_rows(zeros((4,), ())) == 1


def test_inputs_with_different_rows() -> None:
    """Where rows of callers are joined they must agree, though no name says that axes are one."""
    axes = terms([-1], [-1])
    assert axes.count_rows(zeros((2,), (2,))) == 2
    with pytest.raises(InvalidRequest, match=r"\['a', 'b'\]: \[2, 3\] rows"):
        axes.count_rows(zeros((2,), (3,)))
    assert terms([-1], [-1], batchable=False).count_rows(zeros((2,), (3,))) == 2


def test_the_outputs_of_a_call() -> None:
    """They come in the graph's order; without names all tensors, or a refusal if there is none."""
    asked = terms(["n"], outputs={"x": "FP32", "y": "seq(tensor(float))", "z": "INT64"})
    assert asked.wanted(None) == asked.wanted([]) == ("x", "z")
    assert asked.wanted(["z", "x"]) == ("x", "z")
    assert asked.wanted(["z"]) == ("z",)
    assert asked.left_out == ("y",)
    with pytest.raises(InvalidRequest, match=r"output 'y': seq.* is no tensor"):
        asked.wanted(["x", "y"])
    with pytest.raises(InvalidRequest, match="output 'w': the model has no such output"):
        asked.wanted(["w"])
    with pytest.raises(InvalidRequest, match=r"output 'y': seq.* is no tensor"):
        terms(["n"], outputs={"y": "seq(tensor(float))"}).wanted(None)
