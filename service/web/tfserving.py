"""TensorFlow Serving's dialect of V1: columns instead of rows, and metadata as a signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.arrays import kind_of
from service.calls import row_mode
from service.contract import (
    Contract,
    ImagePipeline,
    SequencePipeline,
    TextPipeline,
)
from service.errors import InvalidRequest
from service.tensors import TensorSpec

SIGNATURE = "serving_default"
_METHOD = "tensorflow/serving/predict"
_DTYPES: Mapping[str, str] = {
    "BOOL": "DT_BOOL",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BYTES": "DT_STRING",
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a request as instances; ``whole`` means one instance without a batch axis."""

    instances: list[object]
    whole: bool


def served_inputs(contract: Contract) -> tuple[TensorSpec, ...]:
    """Return what callers of V1 send, which is what the pipeline takes and not the graph."""
    name, pipeline = contract.inputs[0].name, contract.pipeline
    if isinstance(pipeline, ImagePipeline):
        shape = (-1, pipeline.height, pipeline.width, pipeline.channels)
        return (TensorSpec(name, "UINT8", shape),)
    if isinstance(pipeline, SequencePipeline):
        return (TensorSpec(name, "FP32", (-1, -1, pipeline.channels)),)
    if isinstance(pipeline, TextPipeline):
        return (TensorSpec(name, "BYTES", (-1,)),)
    return contract.input_specs


def served_outputs(contract: Contract) -> tuple[TensorSpec, ...]:
    """Return what callers of V1 get, as columns."""
    if contract.task == "classification" and contract.labels is not None:
        datatype = contract.answer.datatype
        return (
            TensorSpec("label", "BYTES", (-1,)),
            TensorSpec("score", datatype, (-1,)),
            TensorSpec("scores", datatype, (-1, len(contract.labels))),
        )
    return tuple(output.spec() for output in contract.outputs if not output.auxiliary)


def columns_of(inputs: object, contract: Contract) -> Columns:
    """Return the value of ``inputs`` as instances.

    ``inputs`` is an object of tensors by name, or the tensor itself where there is one input.
    Raises InvalidRequest that names the column.
    """
    specs = served_inputs(contract)
    names = [spec.name for spec in specs]
    columns = inputs if isinstance(inputs, dict) else {names[0]: inputs}
    if not isinstance(inputs, dict) and len(names) > 1:
        raise InvalidRequest(
            f"inputs: expected an object with {_listed(names)}, got {kind_of(inputs)}"
        )
    for name in columns:
        if name not in names:
            raise InvalidRequest(f"inputs.{name}: no such input; the model takes {_listed(names)}")
    if row_mode(contract.input_specs) == "whole":
        return Columns([columns], whole=True)
    return Columns(_rows(columns), whole=False)


def _rows(columns: Mapping[str, object]) -> list[object]:
    lengths: dict[str, int] = {}
    for name, column in columns.items():
        if not isinstance(column, (list, np.ndarray)) or not len(column):
            seen = "an empty array" if isinstance(column, list) else kind_of(column)
            raise InvalidRequest(f"inputs.{name}: expected an array of rows, got {seen}")
        lengths[name] = len(column)
    if len(set(lengths.values())) > 1:
        raise InvalidRequest(f"inputs: columns must have the same number of rows, got {lengths}")
    if not columns:
        raise InvalidRequest("inputs: empty, at least one is needed")
    found = (column for column in columns.values() if isinstance(column, (list, np.ndarray)))
    rows = zip(*found, strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def outputs_of(predictions: Sequence[object], contract: Contract, *, whole: bool) -> object:
    """Return answers as columns: the only one bare, several by name."""
    first = predictions[0]
    if not isinstance(first, dict):
        specs = served_outputs(contract)
        return _tensor(first, specs[0]) if whole else list(predictions)
    if whole:
        return {spec.name: _tensor(first[spec.name], spec) for spec in served_outputs(contract)}
    return {key: [_cell(one, key) for one in predictions] for key in first}


def _cell(answer: object, key: str) -> object:
    """Return one row's value; scores by label become a row in the order of the labels."""
    value = answer[key] if isinstance(answer, dict) else None
    return list(value.values()) if isinstance(value, dict) else value


def _tensor(value: object, spec: TensorSpec) -> object:
    """Return a whole tensor: an answer without rows has lost a first axis of 1 on its way."""
    return [value] if _depth(value) < len(spec.shape) else value


def _depth(value: object) -> int:
    if isinstance(value, np.ndarray):
        return value.ndim
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def is_whole_tensor(inputs: object, contract: Contract) -> bool:
    """Whether a bare array is the tensor of a model without a batch axis, and not rows of it."""
    specs = contract.input_specs
    return len(specs) == 1 and row_mode(specs) == "whole" and _depth(inputs) == len(specs[0].shape)


def check_signature(name: object) -> None:
    """Raise InvalidRequest unless a request's ``signature_name`` is the one that there is."""
    if name not in (None, "", SIGNATURE):
        seen = f"'{name}'" if isinstance(name, str) else kind_of(name)
        raise InvalidRequest(f"signature_name: the model has '{SIGNATURE}' only, got {seen}")


def metadata_of(name: str, version: int, contract: Contract) -> dict[str, object]:
    """Return a model's signature in TensorFlow Serving's shape.

    Its protobuf messages are found with snake_case and with camelCase names, depending on who
    turned them into JSON; clients read either.
    """
    signature = {
        SIGNATURE: {
            "inputs": _infos(served_inputs(contract)),
            "outputs": _infos(served_outputs(contract)),
            "method_name": _METHOD,
        }
    }
    spec = {"name": name, "signature_name": "", "version": str(version)}
    return {
        "model_spec": spec,
        "modelSpec": spec,
        "metadata": {"signature_def": {"signature_def": signature, "signatureDef": signature}},
    }


def _infos(specs: Sequence[TensorSpec]) -> dict[str, object]:
    infos: dict[str, object] = {}
    for spec in specs:
        dims = [{"size": str(size), "name": ""} for size in spec.wire_shape]
        shape = {"dim": dims, "unknown_rank": False}
        infos[spec.name] = {
            "name": spec.name,
            "dtype": _DTYPES.get(spec.datatype, f"DT_{spec.datatype}"),
            "tensor_shape": shape,
            "tensorShape": shape,
        }
    return infos


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
