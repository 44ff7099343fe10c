"""How far two engines are from each other on a model's golden inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from service.calls import calls_for, own_rows
from service.contract import Contract
from service.engine import Engine
from service.golden import Golden
from service.pipeline import Pipeline
from service.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Likeness:
    """The largest differences over all floating-point outputs, and how many labels are others.

    ``max_rel`` is relative to the second engine where that does not answer 0; ``labels_changed``
    is None for what is no classifier.
    """

    vectors: int
    max_abs: float
    max_rel: float
    labels_changed: int | None

    def as_json(self) -> dict[str, object]:
        """Return the figures for model-info."""
        return asdict(self)


def compare(
    contract: Contract, golden: Golden, pipeline: Pipeline, engines: tuple[Engine, Engine]
) -> Likeness:
    """Run the golden inputs on both engines, in the same calls; raises what a run raises."""
    rows = [pipeline.decode(raw, golden.media_type) for raw in golden.raws]
    names = [output.name for output in contract.outputs]
    classifier = contract.task == "classification"
    far_abs = far_rel = 0.0
    changed = 0
    chunk = len(rows) if contract.batchable else 1
    for call in calls_for(contract.input_specs, pipeline, rows, chunk=chunk):
        one, other = (engine.run(call.inputs, names) for engine in engines)
        for name in names:
            distance, relative = distances(one[name], other[name])
            far_abs, far_rel = max(far_abs, distance), max(far_rel, relative)
        if classifier:
            changed += labels_changed(one, other, contract.answer.name, call.rows)
    return Likeness(len(rows), far_abs, far_rel, changed if classifier else None)


def distances(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Return the largest absolute and relative difference; infinite for shapes that differ.

    What is no floating-point number counts 0 if it is equal and infinitely far if not.  NaN is as
    far from everything but NaN.
    """
    if one.shape != other.shape:
        return np.inf, np.inf
    if other.dtype.kind != "f":
        far = 0.0 if np.array_equal(one, other) else np.inf
        return far, far
    first, second = (np.atleast_1d(value).astype(np.float64) for value in (one, other))
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        apart = np.abs(first - second)
        apart[np.isnan(apart)] = np.inf
        apart[same] = 0.0
        size = np.abs(second)
        relative = np.where(np.isfinite(size) & (size > 0), apart / size, 0.0)
        relative[np.isnan(second) & ~same] = np.inf
    return float(apart.max(initial=0.0)), float(relative.max(initial=0.0))


def labels_changed(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor], name: str, rows: int
) -> int:
    """Return for how many rows the largest score is another one."""
    pairs = zip(own_rows(one[name], rows), own_rows(other[name], rows), strict=True)
    return sum(int(np.argmax(first)) != int(np.argmax(second)) for first, second in pairs)
