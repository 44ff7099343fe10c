"""Inputs to try a model with: random rows by its tensors, or its golden ones, in any number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from service.contract import Contract
from service.errors import EngineFailure, InvalidRequest
from service.golden import Golden
from service.pipeline import Pipeline, Row
from service.tensors import DATATYPES, Tensor, Tensors, TensorSpec

ROWS = 3
MAX_ELEMENTS = 1 << 19
_WORDS = ("a", "to be", "1")
# Of the rows' floats, so that a scale which rows share, as in dynamic quantization, shows itself:
# it is the first row's, and the prober leaves that one out once.
_WIDTHS = (1.0, 0.5, 0.25)
# Of a series or text whose longest the file does not say: what is usual first, and then the sizes
# of windows and of pictures that networks are trained with.
_LENGTHS = (64, 224, 32, 48, 512, 4, 1)


@dataclass(frozen=True, slots=True)
class Style:
    """How random values are drawn where no bounds say more: floats, and whole numbers from-to.

    Whole numbers are small, since what they index is not known: lengths want 1 and more, flags 0
    and 1.  A scale of 0 means floats between 0 and 1, else it is their standard deviation.
    """

    scale: float
    integers: tuple[int, int]


STYLES = (Style(0.0, (1, 3)), Style(1.0, (0, 1)), Style(16.0, (1, 1)))


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows that a model takes, from which batches of any size are made.

    ``length`` is the size of the free axes behind the first, None where there are none.
    """

    rows: Sequence[Row]
    length: int | None
    collate: Callable[[Sequence[Row]], Tensors]
    stretch: Callable[[Row, int], Row]

    def batch(self, rows: int, length: int | None) -> Tensors:
        """Return the tensors of so many rows; all are made ``length`` long, if that is given."""
        chosen = [self.rows[index % len(self.rows)] for index in range(rows)]
        if length is not None:
            chosen = [self.stretch(row, length) for row in chosen]
        return self.collate(chosen)


def golden_samples(contract: Contract, golden: Golden, pipeline: Pipeline) -> Samples:
    """Return the golden inputs as samples, as long as the contract allows at most.

    Raises InvalidRequest or TooLarge if the pipeline refuses one of them.
    """
    rows = [pipeline.decode(raw, golden.media_type) for raw in golden.raws]
    specs = {spec.name: spec for spec in contract.input_specs}
    lengths = contract.inputs[1].name if contract.pipeline.kind == "sequence" else ""

    def stretch(row: Row, length: int) -> Row:
        longer = {name: _stretched(value, specs[name], length) for name, value in row.items()}
        if lengths:
            longer[lengths] = np.asarray(length, longer[lengths].dtype)
        return longer

    return Samples(rows, _longest(contract, rows), pipeline.collate, stretch)


def random_samples(contract: Contract, takes: Callable[[Tensors], object]) -> Samples | None:
    """Return random rows that a model takes, None if it takes none of those tried.

    They are as long as the contract allows at most, if it says so.  ``takes`` runs a call and
    raises InvalidRequest or EngineFailure if the model does not.
    """
    inputs = [spec for spec in contract.input_specs if not spec.optional]
    specs = {spec.name: spec for spec in inputs}
    free = any(_free_axes(spec) for spec in inputs)

    def stretch(row: Row, length: int) -> Row:
        return {name: _stretched(value, specs[name], length) for name, value in row.items()}

    longest = _longest(contract, [])
    lengths = _LENGTHS if longest is None else (longest, *_LENGTHS)
    for length in lengths if free else lengths[:1]:
        for style in STYLES:
            calls = random_rows(inputs, length, style, MAX_ELEMENTS, seed=0)
            if calls is None:
                continue
            try:
                takes(calls[0])
            except (InvalidRequest, EngineFailure):
                continue
            rows = [{name: value[0, ...] for name, value in call.items()} for call in calls]
            return Samples(rows, length if free else None, _stacked, stretch)
    return None


def _stacked(rows: Sequence[Row]) -> Tensors:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _free_axes(spec: TensorSpec) -> list[int]:
    """Return which axes of a row, so without the batch's, may have any size."""
    sizes = enumerate(spec.shape[1:])
    return [axis for axis, size in sizes if isinstance(size, str) or size < 0]


def _stretched(value: Tensor, spec: TensorSpec, length: int) -> Tensor:
    """Repeat a row along its free axes until they have the length, or cut it."""
    for axis in _free_axes(spec):
        if value.ndim > axis and value.shape[axis]:
            value = np.take(value, np.arange(length) % value.shape[axis], axis)
    return value


def _longest(contract: Contract, rows: Sequence[Row]) -> int | None:
    match contract.pipeline.kind:
        case "sequence":
            return contract.pipeline.max_length
        case "text":
            return contract.pipeline.tokenizer.max_tokens
    sizes = [
        row[spec.name].shape[axis]
        for spec in contract.input_specs
        for axis in _free_axes(spec)
        for row in rows
        if spec.name in row and row[spec.name].ndim > axis
    ]
    return max(sizes, default=None)


def random_rows(
    inputs: Sequence[TensorSpec], size: int, style: Style, elements: int, seed: int
) -> list[Tensors] | None:
    """Return three calls of one row, every free axis but the first of ``size``.

    None if an input of all three rows together had more than ``elements``.
    """
    random = np.random.default_rng(seed)
    shapes = {
        spec.name: tuple(n if isinstance(n, int) and n >= 0 else size for n in spec.shape[1:])
        for spec in inputs
    }
    if any(ROWS * math.prod(shape) > elements for shape in shapes.values()):
        return None
    return [
        {s.name: _draw(random, s, (1, *shapes[s.name]), style, width) for s in inputs}
        for width in _WIDTHS
    ]


def _draw(
    random: np.random.Generator,
    spec: TensorSpec,
    shape: tuple[int, ...],
    style: Style,
    width: float,
) -> Tensor:
    dtype = DATATYPES[spec.datatype].numpy
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.hasobject:
        return random.choice(np.asarray(_WORDS, object), shape)
    if dtype.kind in "iu":
        low, high = _whole_bounds(spec, style)
        return random.integers(low, high, shape, endpoint=True).astype(dtype)
    if spec.minimum is not None and spec.maximum is not None:
        values = spec.minimum + (spec.maximum - spec.minimum) * width * random.random(shape)
    else:
        values = random.normal(0, style.scale, shape) if style.scale else random.random(shape)
        least = -math.inf if spec.minimum is None else spec.minimum
        most = math.inf if spec.maximum is None else spec.maximum
        values = np.clip(width * values, least, most)
    return values.astype(dtype)


def _whole_bounds(spec: TensorSpec, style: Style) -> tuple[int, int]:
    """Return the range to draw from: the whole one if it is known, else a small one within it."""
    low, high = (0, 255) if spec.datatype == "UINT8" else style.integers
    if spec.minimum is not None and spec.maximum is not None:
        return math.ceil(spec.minimum), math.floor(spec.maximum)
    if spec.minimum is not None and spec.minimum > low:
        low, high = math.ceil(spec.minimum), math.ceil(spec.minimum) + high - low
    if spec.maximum is not None and spec.maximum < high:
        low, high = math.floor(spec.maximum) + low - high, math.floor(spec.maximum)
    return low, high
