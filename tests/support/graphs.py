"""ONNX files of the unusual kinds that other people's tools write, each a few nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from tests.support.models import value, write_doubler, write_model

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node


def write_scaled(path: Path) -> Path:
    """Write y = x * scale over rows of 2, where ``scale`` is [10, 100] unless it is sent."""
    return write_model(
        path,
        [node("Mul", ["x", "scale"], ["y"])],
        inputs=[value("x", FLOAT, "n", 2), value("scale", FLOAT, 2)],
        outputs=[value("y", FLOAT, "n", 2)],
        constants={"scale": np.asarray([10, 100], np.float32)},
    )


def write_maybe(path: Path) -> Path:
    """Write whether an optional tensor [n, 2] was sent."""
    tensor = helper.make_tensor_type_proto(FLOAT, ["n", 2])
    return write_model(
        path,
        [node("OptionalHasElement", ["x"], ["given"])],
        inputs=[helper.make_value_info("x", helper.make_optional_type_proto(tensor))],
        outputs=[value("given", TensorProto.BOOL)],
    )


def write_centred(path: Path) -> Path:
    """Write y = x - mean of all rows, so that every row depends on its neighbours."""
    return write_model(
        path,
        [
            node("ReduceMean", ["x", "rows"], ["mean"], keepdims=1),
            node("Sub", ["x", "mean"], ["y"]),
        ],
        inputs=[value("x", FLOAT, "n", 2)],
        outputs=[value("y", FLOAT, "n", 2)],
        constants={"rows": np.asarray([0])},
    )


def write_noise(path: Path) -> Path:
    """Write y = x + random numbers."""
    return write_model(
        path,
        [node("RandomUniformLike", ["x"], ["r"]), node("Add", ["x", "r"], ["y"])],
        inputs=[value("x", FLOAT, "n", 2)],
        outputs=[value("y", FLOAT, "n", 2)],
    )


def write_dropping(path: Path, limit: float = 1000) -> Path:
    """Write those rows of x [n, 2] whose first number is below ``limit``."""
    return write_model(
        path,
        [
            node("Gather", ["x", "first"], ["heads"], axis=1),
            node("Less", ["heads", "limit"], ["small"]),
            node("Compress", ["x", "small"], ["y"], axis=0),
        ],
        inputs=[value("x", FLOAT, "n", 2)],
        outputs=[value("y", FLOAT, "m", 2)],
        constants={"first": np.asarray(0), "limit": np.asarray(limit, np.float32)},
    )


def write_state(path: Path) -> Path:
    """Write a counter: out = x + state, and the new state, with rows on the state's axis 1."""
    return write_model(
        path,
        [
            node("Squeeze", ["state", "front"], ["flat"]),
            node("Add", ["x", "flat"], ["out"]),
            node("Unsqueeze", ["out", "front"], ["state_out"]),
        ],
        inputs=[value("x", FLOAT, "n", 2), value("state", FLOAT, 1, "n", 2)],
        outputs=[value("out", FLOAT, "n", 2), value("state_out", FLOAT, 1, "n", 2)],
        constants={"front": np.asarray([0])},
    )


def write_running_sum(path: Path) -> Path:
    """Write the sums along the first axis of x [time, batch], the batch being the second."""
    return write_model(
        path,
        [node("CumSum", ["x", "axis"], ["y"])],
        inputs=[value("x", FLOAT, "time", "batch")],
        outputs=[value("y", FLOAT, "time", "batch")],
        constants={"axis": np.asarray(0)},
    )


def write_product(path: Path) -> Path:
    """Write the matrix product of a [n, k] and b [k, m]."""
    return write_model(
        path,
        [node("MatMul", ["a", "b"], ["y"])],
        inputs=[value("a", FLOAT, "n", "k"), value("b", FLOAT, "k", "m")],
        outputs=[value("y", FLOAT, "n", "m")],
    )


def write_scalars(path: Path) -> Path:
    """Write product = a * b of two numbers without axes."""
    return write_model(
        path,
        [node("Mul", ["a", "b"], ["product"])],
        inputs=[value("a", FLOAT), value("b", FLOAT)],
        outputs=[value("product", FLOAT)],
    )


def write_any_rank(path: Path) -> Path:
    """Write y = x + x for an x whose number of axes is not declared, which some converters do."""
    model = onnx.load(str(write_doubler(path)))
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.ClearField("shape")
    onnx.save(model, str(path))
    return path


def write_classifier(path: Path, classes: Sequence[int] | Sequence[str] = (7, 9)) -> Path:
    """Write what skl2onnx writes for a classifier: a label and a map of scores a row.

    The scores are the two features themselves.
    """
    texts = isinstance(classes[0], str)
    kind = TensorProto.STRING if texts else INT64
    names: dict[str, Any] = {"classlabels_strings" if texts else "classlabels_int64s": [*classes]}
    scores = helper.make_map_type_proto(kind, helper.make_tensor_type_proto(FLOAT, None))
    table = np.asarray(classes, object if texts else np.int64)
    return write_model(
        path,
        [
            node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
            node("Gather", ["classes", "best"], ["label"]),
            node("ZipMap", ["x"], ["scores"], domain="ai.onnx.ml", **names),
        ],
        inputs=[value("x", FLOAT, "n", 2)],
        outputs=[
            value("label", kind, "n"),
            helper.make_value_info("scores", helper.make_sequence_type_proto(scores)),
        ],
        constants={"classes": table},
    )


def write_pieces(path: Path, *, with_sum: bool = True) -> Path:
    """Write x [n, 2] cut into a sequence of its columns [n, 1], and the sum of all its numbers."""
    columns = helper.make_tensor_sequence_value_info("columns", FLOAT, None)
    return write_model(
        path,
        [
            node("SplitToSequence", ["x", "one"], ["columns"], axis=1),
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
        ],
        inputs=[value("x", FLOAT, "n", 2)],
        outputs=[columns, value("sum", FLOAT)] if with_sum else [columns],
        constants={"one": np.asarray(1)},
    )


def write_optional_output(path: Path) -> Path:
    """Write x [n, 2] as an optional value, and one that is never there."""
    tensor = helper.make_tensor_type_proto(FLOAT, ["n", 2])
    optional = helper.make_optional_type_proto(tensor)
    return write_model(
        path,
        [node("Optional", ["x"], ["some"]), node("Optional", [], ["none"], type=tensor)],
        inputs=[value("x", FLOAT, "n", 2)],
        outputs=[helper.make_value_info(name, optional) for name in ("some", "none")],
    )


def write_sequence_input(path: Path) -> Path:
    """Write the length of a sequence, which no request can carry."""
    return write_model(
        path,
        [node("SequenceLength", ["x"], ["length"])],
        inputs=[helper.make_tensor_sequence_value_info("x", FLOAT, None)],
        outputs=[value("length", INT64)],
    )


def write_cast(path: Path, to: int, *, back: bool = False) -> Path:
    """Write x [n, 2] as another type; with ``back`` as FP32 again, so that it stays inside."""
    nodes = [node("Cast", ["x"], ["cast"], to=to)]
    if back:
        nodes.append(node("Cast", ["cast"], ["y"], to=FLOAT))
    return write_model(
        path,
        nodes,
        inputs=[value("x", FLOAT, "n", 2)],
        outputs=[value("y", FLOAT, "n", 2) if back else value("cast", to, "n", 2)],
        opset=21,
    )


def write_half_precision(path: Path) -> Path:
    """Write rows [n, 1, 2] normalized to -1 and 1, then times [[1, 2], [3, 4]], as [1, n, 2].

    One of ONNX Runtime's optimizers ends the process with it.
    """
    half = TensorProto.FLOAT16
    return write_model(
        path,
        [
            node("LayerNormalization", ["x", "scale", "bias"], ["normal"]),
            node("Transpose", ["normal"], ["turned"], perm=[1, 0, 2]),
            node("MatMul", ["turned", "weights"], ["y"]),
        ],
        inputs=[value("x", half, "n", 1, 2)],
        outputs=[value("y", half, 1, "n", 2)],
        constants={
            "scale": np.ones(2, np.float16),
            "bias": np.zeros(2, np.float16),
            "weights": np.asarray([[1, 2], [3, 4]], np.float16),
        },
    )


def write_relu(path: Path, opset: int) -> Path:
    """Write y = max(x, 0) in any opset."""
    return write_model(
        path,
        [node("Relu", ["x"], ["y"])],
        inputs=[value("x", FLOAT, "n", 2)],
        outputs=[value("y", FLOAT, "n", 2)],
        opset=opset,
    )


def write_endless(path: Path) -> Path:
    """Write a loop that never ends, over x [n, 2]."""
    return _write_loop(path, "", {})


def write_loop(path: Path, turns: int) -> Path:
    """Write a loop of so many turns, a few microseconds each, over x [n, 2]."""
    return _write_loop(path, "turns", {"turns": np.asarray(turns)})


def _write_loop(path: Path, turns: str, constants: dict[str, Any]) -> Path:
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Add", ["v", "v"], ["w"])],
        "body",
        [value("i", INT64), value("go", TensorProto.BOOL), value("v", FLOAT, "n", 2)],
        [value("go_on", TensorProto.BOOL), value("w", FLOAT, "n", 2)],
    )
    return write_model(
        path,
        [node("Loop", [turns, "true", "x"], ["y"], body=body)],
        inputs=[value("x", FLOAT, "n", 2)],
        outputs=[value("y", FLOAT, "n", 2)],
        constants={"true": np.asarray(True), **constants},  # noqa: FBT003 - the value itself
    )


def write_external(path: Path, location: str, *, inside: bool = False) -> Path:
    """Write y = x + w for rows of 2, w being kept at ``location`` or ``inside`` a branch there."""
    weights = numpy_helper.from_array(np.asarray([1, 2], np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    add = node("Add", ["x", "w"], ["y"])
    outputs = [value("y", FLOAT, "n", 2)]
    nodes, own = [add], [weights]
    if inside:
        branch = helper.make_graph([add], "branch", [], outputs, [weights])
        nodes = [node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)]
        own = [numpy_helper.from_array(np.asarray(True), "yes")]  # noqa: FBT003 - the value itself
    graph = helper.make_graph(nodes, "graph", [value("x", FLOAT, "n", 2)], outputs, own)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_weights(path: Path) -> Path:
    """Write the weights [1, 2] that `write_external` refers to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.asarray([1, 2], np.float32).tobytes())
    return path


def to_ort_format(model: Path, path: Path) -> Path:
    """Save a model in ONNX Runtime's own format."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    path.parent.mkdir(parents=True, exist_ok=True)
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return path


def write_deadly_quotient(path: Path) -> Path:
    """Write q = a / b of int32, which ends its process for -2^31 / -1."""
    return write_model(
        path,
        [node("Div", ["a", "b"], ["q"])],
        inputs=[value("a", TensorProto.INT32, "n"), value("b", TensorProto.INT32, "n")],
        outputs=[value("q", TensorProto.INT32, "n")],
    )


def write_deadly_constant(path: Path) -> Path:
    """Write y = x + (-2^31 / -1), which ends the process that folds its constants."""
    constants = {
        "least": np.asarray([-(2**31)], np.int32),
        "minus": np.asarray([-1], np.int32),
    }
    return write_model(
        path,
        [node("Div", ["least", "minus"], ["q"]), node("Add", ["x", "q"], ["y"])],
        inputs=[value("x", TensorProto.INT32, "n")],
        outputs=[value("y", TensorProto.INT32, "n")],
        constants=constants,
    )


def write_toil(path: Path) -> Path:
    """Write y = x, after one node that takes time with the square of x and cannot be stopped.

    A hundred thousand are some six seconds.
    """
    return write_model(
        path,
        [
            node("ReduceMax", ["x"], ["most"], keepdims=0),
            node("Range", ["zero", "most", "one"], ["corners"]),
            node("Unsqueeze", ["corners", "first"], ["near"]),
            node("Add", ["near", "half"], ["far"]),
            node("Concat", ["near", "near", "far", "far"], ["flat"], axis=1),
            node("Unsqueeze", ["flat", "axis"], ["boxes"]),
            node("Unsqueeze", ["corners", "axes"], ["scores"]),
            node("NonMaxSuppression", ["boxes", "scores", "all"], ["kept"]),
            node("Shape", ["kept"], ["found"]),
            node("ReduceSum", ["found"], ["count"], keepdims=0),
            node("Cast", ["count"], ["number"], to=FLOAT),
            node("Mul", ["number", "zero"], ["nothing"]),
            node("Add", ["x", "nothing"], ["y"]),
        ],
        inputs=[value("x", FLOAT, "n", 1)],
        outputs=[value("y", FLOAT, "n", 1)],
        constants={
            "zero": np.asarray(0, np.float32),
            "one": np.asarray(1, np.float32),
            "half": np.asarray(0.5, np.float32),
            "first": np.asarray([1]),
            "axis": np.asarray([0]),
            "axes": np.asarray([0, 1]),
            "all": np.asarray([2**31]),
        },
    )
