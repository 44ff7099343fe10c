"""What a graph must not hold, told from its structure alone, before anything of it is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import onnx

from service.refusals import Refusal

# A real network has thousands.  A small file may ask for many more: functions that call functions
# twice double them with each level, and ONNX Runtime copies them all before it says anything.
MAX_NODES: Final = 200_000
MAX_DEPTH: Final = 16
_BUILT_IN: Final = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"}
)
# They carry, or name, code that was compiled for a device.
_COMPILED: Final = frozenset({"EPContext", "PyOp"})
_FUNCTIONS = Mapping[tuple[str, str], onnx.FunctionProto]


def inadmissible(model: onnx.ModelProto) -> tuple[Refusal, str] | None:
    """Return why a model must not even be opened, and in which words; None if it may."""
    functions = {(one.domain, one.name): one for one in model.functions}
    for node in nodes_of(model):
        if node.op_type in _COMPILED and node.domain not in ("", "ai.onnx"):
            return Refusal.CUSTOM_OPS, f"operator {node.op_type}: compiled code is never loaded"
        if node.domain not in _BUILT_IN and (node.domain, node.op_type) not in functions:
            return Refusal.CUSTOM_OPS, (
                f"operator {node.op_type} of domain {node.domain!r}: custom operators need a "
                "library, and none is ever loaded"
            )
    depth = _depth(model)
    if depth > MAX_DEPTH:
        return Refusal.TOO_COMPLEX, f"graphs nested {depth} deep, at most {MAX_DEPTH} are taken"
    nodes = expanded(model.graph.node, functions)
    if nodes > MAX_NODES:
        return (
            Refusal.TOO_COMPLEX,
            f"{nodes} nodes once functions are expanded; {MAX_NODES} at most",
        )
    return None


def expanded(nodes: Iterable[onnx.NodeProto], functions: _FUNCTIONS) -> int:
    """Return how many nodes there are once every call of a function is replaced by its body.

    Each function is looked at once, however often it is called.  One that calls itself, which no
    runtime takes, counts as more than may be.
    """
    known: dict[tuple[str, str], int] = {}
    # Bodies that call others wait on this stack and not on Python's, which has an end.
    waiting = list(functions)
    open_: set[tuple[str, str]] = set()
    while waiting:
        key = waiting[-1]
        calls = {k for k in _calls(functions[key].node) if k in functions and k not in known}
        if key in known or not calls:
            waiting.pop()
            open_.discard(key)
            known.setdefault(key, _count(functions[key].node, known))
        elif calls & open_ or key in calls:
            return MAX_NODES + 1
        else:
            open_.add(key)
            waiting += calls
    return _count(nodes, known)


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, str]]:
    return ((node.domain, node.op_type) for node in below(nodes))


def _count(nodes: Iterable[onnx.NodeProto], known: Mapping[tuple[str, str], int]) -> int:
    return sum(known.get(key, 1) for key in _calls(nodes))


def _depth(model: onnx.ModelProto) -> int:
    """Return how deep graphs lie within graphs; 1 for one without any."""
    deepest = 0
    level = [model.graph.node, *(function.node for function in model.functions)]
    while level:
        deepest += 1
        level = [graph.node for nodes in level for node in nodes for graph in graphs_of(node)]
    return deepest


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes, those of subgraphs and of the file's own functions included."""
    yield from below(model.graph.node)
    for function in model.functions:
        yield from below(function.node)


def below(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes, and those of the graphs within them."""
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            yield node
            waiting += [graph.node for graph in graphs_of(node)]


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs right within a node."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            if graph.node:
                yield graph
