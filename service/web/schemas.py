"""What a model takes and answers, as JSON schemas of its contract."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from service.calls import row_mode
from service.contract import Contract, ImagePipeline, SequencePipeline, TextPipeline
from service.tensors import DATATYPES, TensorSpec

Schema: TypeAlias = dict[str, Any]

NO_JSON = ("FP16", "BF16")


def element_schema(spec: TensorSpec) -> Schema:
    """Return the schema of one element, bounds included; {} for what is no plain tensor."""
    datatype = DATATYPES.get(spec.datatype)
    if datatype is None:
        return {}
    if datatype.wire in ("BOOL", "BYTES"):
        return {"type": "boolean" if datatype.wire == "BOOL" else "string"}
    if datatype.is_integer:
        limits = np.iinfo(datatype.numpy)
        low, high = int(limits.min), int(limits.max)
        if spec.minimum is not None:
            low = max(low, math.ceil(spec.minimum))
        if spec.maximum is not None:
            high = min(high, math.floor(spec.maximum))
        return {"type": "integer", "minimum": low, "maximum": high}
    bounds = {"minimum": spec.minimum, "maximum": spec.maximum}
    kept = {key: bound for key, bound in bounds.items() if bound is not None}
    # null stands for NaN.
    return {"type": "number" if spec.finite else ["number", "null"], **kept}


def array_schema(shape: Sequence[int | str], element: Schema) -> Schema:
    """Return the schema of nested arrays; an axis of a fixed size has exactly so many elements."""
    if "..." in shape:
        return {}
    schema = element
    for size in reversed(shape):
        fixed = isinstance(size, int) and size >= 0
        schema = {"type": "array", "items": schema}
        if fixed:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def tensor_schema(spec: TensorSpec) -> Schema:
    """Return the schema of one V2 tensor with JSON data, flat or nested."""
    # The sizes stand in the description: tools that read OpenAPI still stumble over prefixItems.
    shape: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}
    if "..." not in spec.shape:
        shape |= {"minItems": len(spec.shape), "maxItems": len(spec.shape)}
    element = element_schema(spec)
    items: Schema = {"anyOf": [element, {"type": "array"}]} if element else {}
    return {
        "type": "object",
        "title": spec.name,
        "description": describe_tensor(spec),
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": spec.datatype},
            "shape": shape,
            "data": {"type": "array", "items": items},
        },
    }


def describe_tensor(spec: TensorSpec) -> str:
    """Return datatype, shape and bounds in a line."""
    axes = ", ".join("any" if size == -1 else str(size) for size in spec.shape)
    text = f"{spec.datatype} [{axes}]"
    if spec.minimum is not None:
        text += f", at least {spec.minimum:.12g}"
    if spec.maximum is not None:
        text += f", at most {spec.maximum:.12g}"
    if spec.maximum_axis:
        text += f", at most the size of axis '{spec.maximum_axis}'"
    return text


def infer_request(contract: Contract) -> Schema:
    """Return the schema of a V2 request for this model."""
    outputs = [spec.name for spec in contract.output_specs]
    wanted: Schema = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"enum": outputs}},
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "description": "Echoed in the answer."},
            "inputs": {**_tensors(contract.input_specs), "minItems": 1},
            "outputs": {
                "type": ["array", "null"],
                "items": wanted,
                "description": "The outputs that are wanted; all where it is left out.",
            },
        },
    }


def infer_answer(contract: Contract) -> Schema:
    """Return the schema of a V2 answer of this model."""
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": _tensors(contract.output_specs),
        },
    }


def _tensors(specs: Sequence[TensorSpec]) -> Schema:
    each = [tensor_schema(spec) for spec in specs]
    items = each[0] if len(each) == 1 else {"anyOf": each}
    return {"type": "array", "maxItems": len(each), "items": items}


def predict_request(contract: Contract) -> Schema:
    """Return the schema of a V1 request for this model."""
    instances = {"type": "array", "minItems": 1, "items": instance_schema(contract)}
    return {
        "type": "object",
        "required": ["instances"],
        "properties": {"instances": instances},
    }


def instance_schema(contract: Contract) -> Schema:
    """Return the schema of one V1 instance."""
    kind = contract.pipeline
    if isinstance(kind, ImagePipeline):
        return _picture_schema(kind.channels)
    if isinstance(kind, TextPipeline):
        return {"type": "string"}
    if isinstance(kind, SequencePipeline):
        steps = array_schema((-1, kind.channels), {"type": "number"})
        return {**steps, "minItems": 1, "maxItems": kind.max_length}
    batched = row_mode(contract.input_specs) != "whole"
    rows = {
        spec.name: array_schema(spec.shape[1:] if batched else spec.shape, element_schema(spec))
        for spec in contract.input_specs
    }
    return next(iter(rows.values())) if len(rows) == 1 else _object(rows)


def _picture_schema(channels: int) -> Schema:
    pixel: Schema = {"type": "integer", "minimum": 0, "maximum": 255}
    colours = {"type": "array", "items": pixel, "minItems": channels, "maxItems": channels}
    pixels = [colours, pixel] if channels == 1 else [colours]
    coded: Schema = {"type": "string", "contentEncoding": "base64"}
    return {
        "oneOf": [
            {**_object({"b64": coded}), "title": "A PNG or JPEG file"},
            *(
                {**array_schema((-1, -1), one), "title": "Pixels, row by row", "minItems": 1}
                for one in pixels
            ),
        ]
    }


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "required": list(properties),
        "properties": dict(properties),
        "additionalProperties": False,
    }


def predict_answer(contract: Contract) -> Schema:
    """Return the schema of a V1 answer of this model."""
    return {
        "type": "object",
        "required": ["predictions"],
        "properties": {"predictions": {"type": "array", "items": _prediction(contract)}},
    }


def _prediction(contract: Contract) -> Schema:
    if contract.task == "classification" and contract.labels is not None:
        score: Schema = {"type": ["number", "null"]}
        return _object(
            {
                "label": {"enum": contract.labels},
                "score": score,
                "scores": {"type": "object", "additionalProperties": score},
            }
        )
    rows = {output.name: _row(output.spec()) for output in contract.outputs if not output.auxiliary}
    return next(iter(rows.values())) if len(rows) == 1 else _object(rows)


def _row(spec: TensorSpec) -> Schema:
    """Return the schema of one instance's part of an output."""
    batched = spec.leads_with_batch or spec.shape[:1] == (1,)
    return array_schema(spec.shape[1:] if batched else spec.shape, element_schema(spec))
