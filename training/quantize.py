"""Dynamic 8-bit integers: weights kept in a quarter of the room, scales found at each run."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quantize_dynamic

from service.contract import Contract
from training.export import write_graph
from training.parity import ExportError

# A table of embeddings is only read, so its rows stay independent; the others scale all rows of a
# run alike.
TABLES = ("Gather",)
EVERYTHING = ("Gather", "MatMul", "LSTM")
LEAST_SHARE = 0.5
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
_INTEGERS = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
# Operators that hold weights and have no dynamic 8-bit form.
_WITHOUT_FORM = ("GRU", "RNN", "Scan", "Loop")


def quantize(source: Path, target: Path, contract: Contract, operators: Sequence[str]) -> float:
    """Write ``source`` with these operators' weights as 8-bit integers; return their share.

    Weights take 7 of the 8 bits: with all of them the sums of processors without VNNI saturate, and
    answers would depend on the machine.  Raises ExportError for a graph with convolutions, whose
    dynamic form is several times slower, and where less than half of the weights can be converted.
    """
    found = Counter(node.op_type for node in onnx.load(str(source)).graph.node)
    if found["Conv"]:
        raise ExportError(
            f"int8: the graph has {found['Conv']} convolutions; ONNX Runtime runs dynamic 8-bit "
            "convolutions about eight times slower than FP32, so none are made"
        )
    with _quiet():
        _fold(source, target)
        quantize_dynamic(
            target,
            target,
            op_types_to_quantize=list(operators),
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    model = onnx.load(str(target))
    share = _share(model.graph)
    if share < LEAST_SHARE:
        raise ExportError(_too_little(share, found, operators))
    write_graph(model, contract, target)
    return share


def _too_little(share: float, found: Counter[str], operators: Sequence[str]) -> str:
    reached = f"int8: {share:.0%} of the weights can be converted, at least {LEAST_SHARE:.0%} must"
    without = [name for name in _WITHOUT_FORM if found[name]]
    if without:
        return f"{reached}; {without[0]} has no dynamic 8-bit form, LSTM has (model.cell=lstm)"
    if tuple(operators) == TABLES:
        return f"{reached}; with rows=together only tables of embeddings are converted"
    return f"{reached}; those of {', '.join(EVERYTHING)} are"


def _fold(source: Path, target: Path) -> None:
    """Write the graph with its constants computed: the quantizer only sees plain weights."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _share(graph: onnx.GraphProto) -> float:
    sizes = Counter({"integer": 0, "float": 0})
    for weight in _weights(graph):
        count = 1
        for size in weight.dims:
            count *= size
        sizes["integer"] += count * (weight.data_type in _INTEGERS)
        sizes["float"] += count * (weight.data_type in _FLOATS)
    return sizes["integer"] / max(1, sizes.total())


def _weights(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _weights(attribute.g)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice, which is for its own command line, off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
