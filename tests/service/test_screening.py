"""What a graph must not hold, told from its structure alone."""

from __future__ import annotations

import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from service.screening import MAX_DEPTH, MAX_NODES, expanded, inadmissible
from tests.support import hostile


def graph_of(*nodes: NodeProto, functions: tuple[object, ...] = ()) -> ModelProto:
    """Return a model of these nodes."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    return helper.make_model(
        helper.make_graph(list(nodes), "g", [x], [y]), functions=list(functions)
    )


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_operators_that_come_with_onnx_runtime(domain: str) -> None:
    """Known domains are left to ONNX Runtime, whatever they are asked for."""
    assert inadmissible(graph_of(helper.make_node("Any", ["x"], ["y"], domain=domain))) is None


@pytest.mark.parametrize(
    ("operator", "domain"),
    [("Any", "my.ops"), ("EPContext", "com.microsoft"), ("Any", "ai.onnx.contrib")],
)
def test_operators_that_need_a_library(operator: str, domain: str) -> None:
    """Anything from elsewhere is named, also where it stands in a branch."""
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    for model in (graph_of(node), graph_of(hostile.branching(node))):
        found = inadmissible(model)
        assert found is not None
        assert (found[0], operator in found[1]) == ("custom_ops", True)


def test_functions_of_the_file_itself_are_no_custom_operators() -> None:
    """They are made of known ones."""
    model = hostile.function_bomb(levels=3)
    assert inadmissible(model) is None


@pytest.mark.parametrize("levels", [1, 5, 12])
def test_functions_are_counted_without_being_expanded(levels: int) -> None:
    """Each level doubles the nodes, and is looked at once."""
    model = hostile.function_bomb(levels=levels)
    functions = {(one.domain, one.name): one for one in model.functions}
    assert expanded(model.graph.node, functions) == 2**levels


def test_more_nodes_than_any_model_has() -> None:
    """A kilobyte that means a million is refused by counting, and so is one without end."""
    for levels in (20, 300):
        found = inadmissible(hostile.function_bomb(levels=levels))
        assert found is not None
        assert found[0] == "too_complex"
    ring = inadmissible(hostile.function_ring())
    assert ring is not None
    assert ring[0] == "too_complex"
    assert str(MAX_NODES) in ring[1]


def test_graphs_within_graphs() -> None:
    """So deep and no deeper."""
    node = helper.make_node("Identity", ["x"], ["y"])
    for _ in range(MAX_DEPTH - 1):
        node = hostile.branching(node)
    assert inadmissible(graph_of(node)) is None
    found = inadmissible(graph_of(hostile.branching(node)))
    assert found is not None
    assert (found[0], found[1][:22]) == ("too_complex", "graphs nested 17 deep,")
