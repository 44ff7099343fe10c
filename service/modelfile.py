"""What is in an ONNX file, read without running it: the only importer of onnx."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from service.errors import BundleError


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One graph input or output; an axis is a size, a name, or None where the file says nothing."""

    name: str
    datatype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The facts of an ONNX file."""

    file: str
    bytes: int
    ir_version: int
    opsets: dict[str, int]
    producer: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    nodes: int
    operators: dict[str, int]
    parameters: int
    metadata: dict[str, str]
    external_data: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Return plain values for a JSON answer."""
        return asdict(self)


def inspect(path: Path) -> ModelInfo:
    """Read the file's structure, weights left on disk; raises BundleError if it is not ONNX."""
    try:
        # The name must not choose the format: onnx reads '.json' and others as something else.
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
        return _info(path, model)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise BundleError(f"{path}: not an ONNX file: {error}") from error


def _info(path: Path, model: onnx.ModelProto) -> ModelInfo:
    graph = model.graph
    if not graph.output:
        raise ValueError("a graph without outputs")
    operators = Counter(node.op_type for node in graph.node)
    weights = {weight.name for weight in graph.initializer}
    return ModelInfo(
        file=path.name,
        bytes=path.stat().st_size,
        ir_version=model.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(_tensor(v) for v in graph.input if v.name not in weights),
        outputs=tuple(_tensor(value) for value in graph.output),
        nodes=len(graph.node),
        operators=dict(sorted(operators.items())),
        parameters=sum(_elements(weight) for weight in graph.initializer),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        external_data=tuple(sorted(_external(graph))),
    )


def _tensor(value: onnx.ValueInfoProto) -> TensorInfo:
    kind = value.type.WhichOneof("value") or "unknown"
    if kind != "tensor_type":
        return TensorInfo(value.name, kind.removesuffix("_type").upper(), ())
    tensor = value.type.tensor_type
    datatype = onnx.TensorProto.DataType.Name(tensor.elem_type)
    return TensorInfo(value.name, datatype, tuple(_axis(d) for d in tensor.shape.dim))


def _axis(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return dim.dim_param or None


def _elements(weight: onnx.TensorProto) -> int:
    count = 1
    for size in weight.dims:
        count *= size
    return count


def _external(graph: onnx.GraphProto) -> set[str]:
    return {
        entry.value
        for weight in graph.initializer
        if weight.data_location == onnx.TensorProto.EXTERNAL
        for entry in weight.external_data
        if entry.key == "location"
    }
