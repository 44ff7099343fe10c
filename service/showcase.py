"""One example of a model, small enough to be read: for the documentation, from golden vectors."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import orjson
from PIL import Image

from service.answers import answers
from service.arrays import array_from_json, load_json
from service.calls import calls_for, row_mode
from service.contract import Contract, ImagePipeline, SequencePipeline, TextPipeline
from service.errors import InvalidRequest, TooLarge
from service.golden import Golden
from service.images import decode_picture
from service.pipeline import NPZ, Pipeline
from service.tensors import DATATYPES, Tensor, TensorSpec

MAX_ELEMENTS = 1024
MAX_PICTURE_BYTES = 8 << 10
MAX_CHARACTERS = 600
_THUMBNAIL = 64
_ANY_SIZE = 8
_A_TEXT = "Lunch at noon? Bring the slides."


@dataclass(frozen=True, slots=True)
class ShownTensor:
    """One tensor of an example; ``data`` is flat, None where it is too long to be read.

    ``fill`` is an element that the model allows, for a tensor of nothing else.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[object] | None
    fill: object = 0

    @property
    def elements(self) -> int:
        """How many elements the shape asks for."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Showcase:
    """What the documentation shows of a model.

    ``instance`` is one V1 instance as JSON, None where it is too long; ``inputs`` the tensors that
    it becomes, one row.  ``answer`` and ``outputs`` are the recorded answers to exactly this
    example, None and () where none was recorded.  ``invented`` says that nobody has tried it: it
    only fits the contract.
    """

    contract: Contract
    instance: object
    inputs: tuple[ShownTensor, ...]
    answer: object = None
    outputs: tuple[ShownTensor, ...] = ()
    invented: bool = False


def showcase_of(contract: Contract, pipeline: Pipeline, golden: Golden | None) -> Showcase:
    """Return an example from the golden vectors, shortened if need be, or one of nothing much."""
    if golden is None or not golden.raws:
        return _invented(contract, pipeline)
    index = _readable(golden.raws)
    raw = golden.raws[index]
    try:
        instance, whole = _instance(contract, raw, golden.media_type)
    except (InvalidRequest, TooLarge):
        # With the proof switched off nobody has looked at the vectors.
        return _invented(contract, pipeline)
    shown = _parsed(contract, pipeline, instance)
    if not whole or not shown.inputs:
        return shown
    expected = {name: rows[index] for name, rows in golden.expected.items()}
    return _recorded(shown, expected)


def _readable(raws: Sequence[bytes]) -> int:
    """Return the vector to show: shorter than most, for a reader, but not the oddest of all."""
    by_size = sorted(range(len(raws)), key=lambda index: len(raws[index]))
    return by_size[len(raws) // 4]


def _instance(contract: Contract, raw: bytes, media_type: str) -> tuple[object, bool]:
    """Return a raw input as a V1 instance, and whether it is all of it."""
    kind = contract.pipeline
    if isinstance(kind, ImagePipeline):
        whole = len(raw) <= MAX_PICTURE_BYTES
        return _coded(raw if whole else _thumbnail(raw, kind.channels)), whole
    if isinstance(kind, TextPipeline):
        text = raw.decode(errors="replace")
        return text[:MAX_CHARACTERS], len(text) <= MAX_CHARACTERS
    if media_type == NPZ:
        return None, False
    value = load_json(raw)
    if isinstance(kind, SequencePipeline):
        # In the precision that the model sees, which is much shorter to read.
        series = np.atleast_1d(array_from_json(value, np.dtype(np.float32), "series"))
        steps = max(1, MAX_ELEMENTS // kind.channels)
        return _plain(series[:steps]), len(series) <= steps
    return value, True


def _coded(picture: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(picture).decode()}


def _thumbnail(raw: bytes, channels: int) -> bytes:
    pixels = decode_picture(raw, channels)
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return _png(picture)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _parsed(contract: Contract, pipeline: Pipeline, instance: object) -> Showcase:
    """Return the example with the tensors that the instance becomes, if it becomes any."""
    if instance is None:
        return replace(_invented(contract, pipeline), instance=None)
    specs = contract.input_specs
    try:
        (call,) = calls_for(specs, pipeline, [pipeline.parse(instance)])
    except (InvalidRequest, TooLarge):
        return Showcase(contract, instance, ())
    inputs = tuple(
        _shown(spec, call.inputs[spec.name]) for spec in specs if spec.name in call.inputs
    )
    fits = contract.pipeline.kind != "tensor" or all(one.data is not None for one in inputs)
    return Showcase(contract, instance if fits else None, inputs)


def _shown(spec: TensorSpec, value: Tensor) -> ShownTensor:
    data = None
    if value.size <= MAX_ELEMENTS:
        data = cast("list[object]", _plain(value.reshape(-1)))
    return ShownTensor(spec.name, spec.datatype, value.shape, data, _fill(spec))


def _plain(value: object) -> object:
    """Return arrays as JSON says them: float32 in its short form, null for NaN."""
    text = orjson.dumps(value, default=_foreign, option=orjson.OPT_SERIALIZE_NUMPY)
    return cast("object", orjson.loads(text))


def _foreign(value: object) -> object:
    # Texts, strided arrays and half precision in the ways that orjson does not write itself.
    if isinstance(value, np.ndarray):
        return value.astype(np.float32).tolist() if value.dtype.kind == "V" else value.tolist()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    raise TypeError(type(value).__name__)


def _recorded(shown: Showcase, expected: Mapping[str, Tensor]) -> Showcase:
    """Return the example with its recorded answers; an output without a batch axis has none."""
    contract = shown.contract
    batched = {
        spec.name: expected[spec.name][None]
        for spec in contract.output_specs
        if spec.name in expected and expected[spec.name].ndim < len(spec.shape)
    }
    if len(batched) < len(contract.outputs):
        return shown
    (answer,) = answers(contract, batched, 1)
    outputs = tuple(_shown(spec, batched[spec.name]) for spec in contract.output_specs)
    return replace(shown, answer=_plain(answer), outputs=outputs)


def _invented(contract: Contract, pipeline: Pipeline) -> Showcase:
    """Return an example that the contract allows, for a model that has recorded none."""
    kind = contract.pipeline
    if isinstance(kind, ImagePipeline):
        ramp = np.linspace(0, 255, _THUMBNAIL, dtype=np.uint8)
        made: object = _coded(_png(Image.fromarray(np.tile(ramp, (8, 1)))))
    elif isinstance(kind, TextPipeline):
        made = _A_TEXT
    elif isinstance(kind, SequencePipeline):
        step = [float(f"{mean:.3g}") for mean in kind.mean]
        made = [step] * min(2, kind.max_length)
    else:
        inputs = _zeros(contract.input_specs)
        return Showcase(contract, _row_of(contract, inputs), inputs, invented=True)
    return replace(_parsed(contract, pipeline, made), invented=True)


def _row_of(contract: Contract, inputs: Sequence[ShownTensor]) -> object:
    """Return the tensors as a V1 instance, None if they are too long."""
    if any(one.data is None for one in inputs):
        return None
    batched = row_mode(contract.input_specs) != "whole"
    rows = {one.name: _nested(one, batched=batched) for one in inputs}
    return next(iter(rows.values())) if len(rows) == 1 else rows


def _zeros(specs: Sequence[TensorSpec]) -> tuple[ShownTensor, ...]:
    """Return one row of every input, axes of one name with one size."""
    batches = {spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], str)}
    found = []
    for spec in specs:
        shape = tuple(
            size
            if isinstance(size, int) and size >= 0
            else (1 if axis == 0 or size in batches else _ANY_SIZE)
            for axis, size in enumerate(spec.shape)
        )
        count, fill = math.prod(shape), _fill(spec)
        data = [fill] * count if count <= MAX_ELEMENTS else None
        found.append(ShownTensor(spec.name, spec.datatype, shape, data, fill))
    return tuple(found)


def _fill(spec: TensorSpec) -> object:
    datatype = DATATYPES[spec.datatype]
    if datatype.wire == "BYTES":
        return "text"
    if datatype.wire == "BOOL":
        return False
    low = -math.inf if spec.minimum is None else spec.minimum
    high = math.inf if spec.maximum is None else spec.maximum
    value = min(max(0.0, low), high)
    return math.ceil(value) if datatype.is_integer else value


def _nested(tensor: ShownTensor, *, batched: bool) -> object:
    array = np.array(tensor.data, object).reshape(tensor.shape)
    row = array[0] if batched else array
    return row.tolist() if isinstance(row, np.ndarray) else row
