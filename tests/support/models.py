"""Tiny ONNX models whose answers can be worked out by hand."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from service.bundle import GOLDEN_FILE, MANIFEST_FILE, Bundle, publishing, read_bundle, seal
from service.contract import (
    MODEL_FILE,
    Contract,
    ImagePipeline,
    InputContract,
    OutputContract,
    SequencePipeline,
    TensorPipeline,
    TextPipeline,
)
from service.engine import EngineOptions, OrtEngine
from service.golden import Golden, dump
from service.pipeline import make_pipeline
from service.tokens import TokenizerConfig

Axis = int | str
_OPSET = 18


@dataclass(frozen=True, slots=True)
class Graph:
    """What `write_model` saves."""

    nodes: Sequence[onnx.NodeProto]
    inputs: Sequence[onnx.ValueInfoProto]
    outputs: Sequence[onnx.ValueInfoProto]
    constants: dict[str, np.ndarray]


def write_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray] | None = None,
    opset: int = _OPSET,
) -> Path:
    """Save a checked graph at ``path`` and return the path."""
    weights = [numpy_helper.from_array(v, name) for name, v in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), weights)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=9,
        producer_name="hand-made",
    )
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def value(name: str, kind: int, *shape: Axis) -> onnx.ValueInfoProto:
    """Describe one input or output."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def write_doubler(
    path: Path, kind: int = TensorProto.FLOAT, axes: Sequence[Axis] = ("n", 2)
) -> Path:
    """Write y = x + x for any number of rows."""
    return write_model(
        path,
        [helper.make_node("Add", ["x", "x"], ["y"])],
        inputs=[value("x", kind, *axes)],
        outputs=[value("y", kind, *axes)],
    )


def write_identity(path: Path, kind: int, axes: Sequence[Axis] = ("n", 2)) -> Path:
    """Write y = x for a type that cannot be added, such as text or booleans."""
    return write_model(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs=[value("x", kind, *axes)],
        outputs=[value("y", kind, *axes)],
    )


def write_sum_and_difference(path: Path) -> Path:
    """Write sum = a + b and difference = a - b over INT32 rows of 2."""
    rows = {name: value(name, TensorProto.INT32, "n", 2) for name in ("a", "b")}
    return write_model(
        path,
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
        ],
        inputs=list(rows.values()),
        outputs=[value(name, TensorProto.INT32, "n", 2) for name in ("sum", "difference")],
    )


def write_divider(path: Path) -> Path:
    """Write y = 1 / x, which answers infinity for 0 and NaN never asked for."""
    return write_model(
        path,
        [helper.make_node("Reciprocal", ["x"], ["y"])],
        inputs=[value("x", TensorProto.FLOAT, "n", 2)],
        outputs=[value("y", TensorProto.FLOAT, "n", 2)],
    )


def write_embedding(path: Path) -> Path:
    """Write rows of a table [4, 2] for INT64 ids [n]; an id beyond 3 makes the model refuse."""
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    return write_model(
        path,
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        inputs=[value("ids", TensorProto.INT64, "n")],
        outputs=[value("y", TensorProto.FLOAT, "n", 2)],
        constants={"table": table},
    )


def picture_bundle(repository: Path, name: str = "pictures") -> Bundle:
    """Publish a classifier of 2 x 2 grey pictures: the brighter column wins."""
    columns = np.asarray([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32) * 8
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "columns"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=-1),
    ]
    contract = Contract(
        task="classification",
        inputs=[InputContract(name="image", datatype="FP32", shape=["batch", 1, 2, 2])],
        outputs=[OutputContract(name="scores", datatype="FP32", shape=["batch", 2])],
        pipeline=ImagePipeline(height=2, width=2, channels=1, mean=[0.5], std=[0.5]),
        labels=["left", "right"],
        batchable=True,
    )
    graph = Graph(
        nodes,
        inputs=[value("image", TensorProto.FLOAT, "batch", 1, 2, 2)],
        outputs=[value("scores", TensorProto.FLOAT, "batch", 2)],
        constants={"columns": columns},
    )
    raws = [png([[i * 9, 200], [i, 90]]) for i in range(16)]
    return _publish(repository / name, contract, graph, raws=raws, media_type="image/png")


def series_bundle(
    repository: Path, name: str = "series", *, channels: int = 2, max_length: int = 8
) -> Bundle:
    """Publish a regression: the sum over all steps and channels, divided by the true length."""
    nodes = [
        helper.make_node("ReduceSum", ["values", "axes"], ["total"], keepdims=0),
        helper.make_node("Cast", ["lengths"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["total", "count"], ["mean"]),
        helper.make_node("Unsqueeze", ["mean", "last"], ["answer"]),
    ]
    contract = Contract(
        task="regression",
        inputs=[
            InputContract(name="values", datatype="FP32", shape=["batch", "time", channels]),
            InputContract(
                name="lengths", datatype="INT64", shape=["batch"], minimum=1, maximum_axis="time"
            ),
        ],
        outputs=[OutputContract(name="answer", datatype="FP32", shape=["batch", 1])],
        pipeline=SequencePipeline(
            channels=channels, mean=[0] * channels, std=[1] * channels, max_length=max_length
        ),
        batchable=True,
    )
    graph = Graph(
        nodes,
        inputs=[
            value("values", TensorProto.FLOAT, "batch", "time", channels),
            value("lengths", TensorProto.INT64, "batch"),
        ],
        outputs=[value("answer", TensorProto.FLOAT, "batch", 1)],
        constants={"axes": np.asarray([1, 2]), "last": np.asarray([1])},
    )
    raws = [orjson.dumps([[i] + [1] * (channels - 1)] * (1 + i % 4)) for i in range(16)]
    return _publish(repository / name, contract, graph, raws=raws, media_type="application/json")


def text_bundle(repository: Path, name: str = "texts") -> Bundle:
    """Publish a classifier that calls a text of four tokens or more long, else short."""
    nodes = [
        helper.make_node("Cast", ["tokens"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Sign", ["numbers"], ["present"]),
        helper.make_node("ReduceSum", ["present", "axes"], ["count"], keepdims=1),
        helper.make_node("Mul", ["count", "slope"], ["sloped"]),
        helper.make_node("Add", ["sloped", "offset"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=-1),
    ]
    contract = Contract(
        task="classification",
        inputs=[
            InputContract(
                name="tokens", datatype="INT64", shape=["batch", "time"], minimum=0, maximum=129
            )
        ],
        outputs=[OutputContract(name="scores", datatype="FP32", shape=["batch", 2])],
        pipeline=TextPipeline(
            tokenizer=TokenizerConfig(buckets=128, max_tokens=16, max_chars=64, pairs=False)
        ),
        labels=["short", "long"],
        batchable=True,
    )
    graph = Graph(
        nodes,
        inputs=[value("tokens", TensorProto.INT64, "batch", "time")],
        outputs=[value("scores", TensorProto.FLOAT, "batch", 2)],
        constants={
            "axes": np.asarray([1]),
            "slope": np.asarray([-1, 1], np.float32),
            "offset": np.asarray([3.5, -3.5], np.float32),
        },
    )
    raws = [("word " * (1 + i % 7)).encode() for i in range(16)]
    return _publish(repository / name, contract, graph, raws=raws, media_type="text/plain")


def resealed(bundle: Bundle, **changes: object) -> Bundle:
    """Complete a bundle again whose files were changed, with other members of its contract.

    All hashes hold then; what the bundle promises need not.
    """
    members = {name: getattr(bundle.manifest, name) for name in Contract.model_fields} | changes
    (bundle.path / MANIFEST_FILE).unlink()
    return seal(bundle.path, Contract.model_validate(members), bundle.manifest.producer)


def centred_bundle(repository: Path, name: str = "centred") -> Bundle:
    """Publish y = x - mean of all rows with the false promise that rows are independent.

    Its golden rows are all the same, so that they hold at every batch size.
    """
    contract = Contract(
        task="tensor",
        inputs=[InputContract(name="x", datatype="FP32", shape=["n", 2])],
        outputs=[OutputContract(name="y", datatype="FP32", shape=["n", 2])],
        pipeline=TensorPipeline(),
        batchable=True,
    )
    graph = Graph(
        [
            helper.make_node("ReduceMean", ["x", "rows"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        inputs=[value("x", TensorProto.FLOAT, "n", 2)],
        outputs=[value("y", TensorProto.FLOAT, "n", 2)],
        constants={"rows": np.asarray([0])},
    )
    raws = [b"[1, 2]"] * 16
    return _publish(repository / name, contract, graph, raws=raws, media_type="application/json")


def png(pixels: object) -> bytes:
    """Return nested numbers 0-255 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """Return a PNG of a few bytes whose header declares side x side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _publish(
    model: Path, contract: Contract, graph: Graph, *, raws: Sequence[bytes], media_type: str
) -> Bundle:
    """Publish version 1 with ONNX Runtime's own answers as golden vectors."""
    with publishing(model, 1) as folder:
        file = write_model(
            folder / MODEL_FILE,
            graph.nodes,
            inputs=graph.inputs,
            outputs=graph.outputs,
            constants=graph.constants,
        )
        answers, labels = _answers(file, contract, raws, media_type), contract.labels or []
        scores = answers[contract.answer.name] if labels else ()
        words = tuple(labels[int(row.argmax())] for row in scores)
        golden = Golden(tuple(raws), media_type, answers, words)
        (folder / GOLDEN_FILE).write_bytes(dump(golden))
        seal(folder, contract, {"name": "hand-made"})
    return read_bundle(model / "1")


def _answers(
    file: Path, contract: Contract, raws: Sequence[bytes], media_type: str
) -> dict[str, tuple[np.ndarray, ...]]:
    engine, pipeline = OrtEngine(str(file), EngineOptions()), make_pipeline(contract)
    names = [output.name for output in contract.outputs]
    runs = [engine.run(pipeline.collate([pipeline.decode(raw, media_type)]), names) for raw in raws]
    engine.close()
    return {name: tuple(run[name][0] for run in runs) for name in names}
