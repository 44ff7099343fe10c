"""Operators whose work depends on what a request says, not only on how large it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.dataflow import value_dependent
from service.modelfile import inspect
from tests.support import graphs, models

node = helper.make_node


def test_sizes_from_shapes_depend_on_no_value() -> None:
    """A graph that reads its own shape to reshape, expand and slice is as regular as any."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Range", ["first", "n", "step"], ["r"]),
        node("Expand", ["x", "s"], ["e"]),
        node("Slice", ["e", "zero", "n"], ["t"]),
        node("Reshape", ["t", "s"], ["y"]),
    ]
    assert value_dependent(nodes, ["x"]) == frozenset()


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([node("NonZero", ["x"], ["y"])], {"NonZero"}),
        ([node("Compress", ["x", "c"], ["y"])], {"Compress"}),
        ([node("Reshape", ["w", "x"], ["y"])], {"Reshape"}),
        ([node("Cast", ["x"], ["k"], to=7), node("TopK", ["w", "k"], ["v", "i"])], {"TopK"}),
        ([node("ReduceMax", ["x"], ["m"]), node("Range", ["a", "m", "b"], ["y"])], {"Range"}),
        ([node("Resize", ["w", "", "x"], ["y"])], {"Resize"}),
        ([node("Resize", ["x", "", "scales"], ["y"])], set()),
    ],
)
def test_sizes_from_values_are_found(nodes: list[onnx.NodeProto], found: set[str]) -> None:
    """However many nodes lie between the input and what takes it for a size."""
    assert value_dependent(nodes, ["x"]) == found


def test_loops_and_branches_are_found_wherever_they_are(tmp_path: Path) -> None:
    """How often a body runs is known only when it has; a function's counts as the graph's."""
    assert inspect(graphs.write_endless(tmp_path / "l.onnx")).value_dependent == ("Loop",)
    branch = graphs.write_external(tmp_path / "b.onnx", "w.bin", inside=True)
    assert inspect(branch).value_dependent == ("If",)
    assert inspect(models.write_embedding(tmp_path / "e.onnx")).value_dependent == ()
    function = helper.make_function(
        "own", "Found", ["a"], ["b"], [node("NonZero", ["a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    graph = helper.make_graph(
        [node("Found", ["x"], ["y"], domain="own")], "g",
        [models.value("x", TensorProto.FLOAT, "n", 2)],
        [models.value("y", TensorProto.INT64, 2, "found")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=9),
        str(tmp_path / "f.onnx"),
    )
    assert inspect(tmp_path / "f.onnx").value_dependent == ("NonZero",)


def test_weights_that_an_old_file_lists_as_inputs_are_no_values(tmp_path: Path) -> None:
    """Before version 4 of the format every weight was also an input, which nobody could send."""
    path = models.write_model(
        tmp_path / "m.onnx",
        [node("Reshape", ["x", "shape"], ["y"])],
        inputs=[
            models.value("x", TensorProto.FLOAT, "n", 2),
            models.value("shape", TensorProto.INT64, 2),
        ],
        outputs=[models.value("y", TensorProto.FLOAT, "n", 2)],
        constants={"shape": np.asarray([-1, 2])},
    )
    assert inspect(path).value_dependent == ("Reshape",)
    model = onnx.load(str(path))
    model.ir_version = 3
    onnx.save(model, str(path))
    assert inspect(path).value_dependent == ()
