"""What is in an ONNX file, read without running it: the only importer of onnx."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from service.dataflow import value_dependent
from service.errors import BundleError
from service.external import locations, take_weights
from service.graph import ORT_SUFFIX
from service.refusals import Refusal
from service.screening import inadmissible, nodes_of

OLDEST_OPSET = 7
_TRIAL_OPSET = 17
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
    | {"RandomUniformLike"}
)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One graph input or output.

    An axis is a size, a name, or None where the file says nothing; without a ``shape`` not even
    the number of axes is said.
    """

    name: str
    datatype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The facts of an ONNX file; ``optional_inputs`` have a default in the file.

    ``value_dependent`` are the operators whose work, and so whose time, the values of a request
    decide and not only its shapes.
    """

    file: str
    bytes: int
    ir_version: int
    opsets: dict[str, int]
    producer: str
    inputs: tuple[TensorInfo, ...]
    optional_inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    nodes: int
    operators: dict[str, int]
    parameters: int
    metadata: dict[str, str]
    external_data: tuple[str, ...]
    value_dependent: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return plain values for a JSON answer."""
        return asdict(self)

    @property
    def any_shape(self) -> frozenset[str]:
        """The inputs and outputs whose number of axes the file leaves open."""
        tensors = (*self.inputs, *self.outputs)
        return frozenset(tensor.name for tensor in tensors if tensor.shape is None)

    @property
    def notes(self) -> list[str]:
        """What an operator should know of the file before trusting it with traffic."""
        found = []
        opset = self.opsets.get("ai.onnx", OLDEST_OPSET)
        if opset < OLDEST_OPSET:
            found.append(f"opset {opset}: ONNX Runtime promises to run {OLDEST_OPSET} and newer")
        if self.external_data:
            found.append(f"weights lie beside the file: {', '.join(self.external_data)}")
        if drawn := sorted(_RANDOM & self.operators.keys()):
            found.append(f"draws random numbers: {', '.join(drawn)}")
        return found


def inspect(path: Path) -> ModelInfo:
    """Read the file's structure, weights left on disk; raises BundleError if it is not ONNX."""
    info = _read(path)
    if not info.outputs:
        raise BundleError(f"{path}: not an ONNX file: a graph without outputs")
    return info


def write_trial(path: Path) -> None:
    """Write a model that any provider must be able to run: ``y`` of ``x``, FP32 [1, 1, 4, 4].

    It convolves and multiplies, so that the libraries for both are needed.
    """
    tensors = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, 4, 4])
        for name in ("x", "y")
    ]
    weights = [
        onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9),
        onnx.helper.make_tensor("m", onnx.TensorProto.FLOAT, [4, 4], [1.0] * 16),
    ]
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        onnx.helper.make_node("MatMul", ["c", "m"], ["y"]),
    ]
    graph = onnx.helper.make_graph(nodes, "trial", tensors[:1], tensors[1:], weights)
    opsets = [onnx.helper.make_opsetid("", _TRIAL_OPSET)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))


def _read(path: Path) -> ModelInfo:
    if path.suffix == ORT_SUFFIX:
        raise BundleError(f"{path}: ORT format can be served, but not inspected")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # A pipe would hold up the load, and with it the end of the server, for ever.
            raise BundleError(f"{path}: not a regular file", Refusal.UNSAFE_FILE)
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}", Refusal.FILE_MISSING) from error
    return _info(path, _parsed(content, path), len(content))


def _parsed(content: bytes, path: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, ValueError) as error:
        raise BundleError(f"{path}: not an ONNX file: {error}", Refusal.NOT_ONNX) from error
    return model


@dataclass(frozen=True, slots=True)
class Examined:
    """A file that may be run: its facts, and its weights beside it by the place that it names."""

    info: ModelInfo
    weights: Mapping[str, str]


def examine(content: bytes, path: Path, take: Callable[[str], int]) -> Examined:
    """Inspect a file that is about to be run, before any of it is.

    ``take`` reads a file beside it, by its plain name, and returns its bytes.  Raises BundleError
    for weights anywhere but below the file's own folder, since what a file names is read into
    memory and may come back as an output; for weights that cannot be handed over in memory; for
    operators that need a library; and for graphs larger than any that is meant to be run.
    """
    model = _parsed(content, path)
    problem = inadmissible(model)
    if problem:
        raise BundleError(f"{path}: {problem[1]}", problem[0])
    try:
        weights = take_weights(model, take)
    except BundleError as error:
        raise BundleError(f"{path}: {error}", error.code) from error
    return Examined(_info(path, model, len(content)), weights)


def _info(path: Path, model: onnx.ModelProto, size: int) -> ModelInfo:
    graph = model.graph
    operators = Counter(node.op_type for node in nodes_of(model))
    weights = {weight.name for weight in graph.initializer}
    weights |= {weight.values.name for weight in graph.sparse_initializer}
    return ModelInfo(
        file=path.name,
        bytes=size,
        ir_version=model.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(_described(v) for v in graph.input if v.name not in weights),
        optional_inputs=tuple(_described(v) for v in graph.input if v.name in weights),
        outputs=tuple(_described(value) for value in graph.output),
        nodes=operators.total(),
        operators=dict(sorted(operators.items())),
        parameters=sum(_elements(weight) for weight in graph.initializer),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        external_data=tuple(sorted(locations(model))),
        value_dependent=_value_dependent(model),
    )


def _value_dependent(model: onnx.ModelProto) -> tuple[str, ...]:
    graph = model.graph
    inputs = {value.name for value in graph.input}
    if model.ir_version < 4:
        # Such a file lists its weights among the inputs, but nobody can send them.
        inputs -= {weight.name for weight in graph.initializer}
    found = value_dependent(graph.node, inputs)
    for function in model.functions:
        found |= value_dependent(function.node, function.input)
    return tuple(sorted(found))


def _described(value: onnx.ValueInfoProto) -> TensorInfo:
    if value.type.WhichOneof("value") != "tensor_type":
        return TensorInfo(value.name, _type_text(value.type), ())
    tensor = value.type.tensor_type
    shape = tuple(_axis(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
    return TensorInfo(value.name, onnx.TensorProto.DataType.Name(tensor.elem_type), shape)


def _type_text(kind: onnx.TypeProto) -> str:
    """Return a type such as SEQUENCE(MAP(INT64, FLOAT))."""
    name = kind.WhichOneof("value")
    datatypes = onnx.TensorProto.DataType
    if name == "tensor_type":
        return str(datatypes.Name(kind.tensor_type.elem_type))
    if name == "sequence_type":
        return f"SEQUENCE({_type_text(kind.sequence_type.elem_type)})"
    if name == "optional_type":
        return f"OPTIONAL({_type_text(kind.optional_type.elem_type)})"
    if name == "map_type":
        key = datatypes.Name(kind.map_type.key_type)
        return f"MAP({key}, {_type_text(kind.map_type.value_type)})"
    return (name or "unknown").removesuffix("_type").upper()


def _axis(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return dim.dim_param or None


def _elements(weight: onnx.TensorProto) -> int:
    count = 1
    for size in weight.dims:
        count *= size
    return count
