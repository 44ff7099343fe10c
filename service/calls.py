"""How instances become calls of the graph: many rows together, one at a time, or as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from service.errors import InvalidRequest
from service.pipeline import Pipeline, Row
from service.tensors import ANY_SHAPE, Tensor, TensorSpec, check, inner_axes

CHUNK = 32
RowMode = Literal["rows", "single", "whole"]


@dataclass(frozen=True, slots=True)
class Call:
    """The tensors of some instances, and how many instances they hold."""

    inputs: Mapping[str, Tensor]
    rows: int


def optional_in(specs: Sequence[TensorSpec], inputs: Iterable[str]) -> list[str]:
    """Return which of these inputs are optional: they belong to a whole call, not to its rows."""
    optional = {spec.name for spec in specs if spec.optional}
    return [name for name in inputs if name in optional]


def row_mode(specs: Sequence[TensorSpec]) -> RowMode:
    """Return how instances fit a graph.

    "rows": the first axis of every input may have any size, so instances share a call; not so if
    an axis of its name lies elsewhere, as in a product of matrices [n, k] and [k, m].  "single":
    the first axis is fixed to 1, so each instance is a call.  "whole": there is no batch axis, so
    an instance holds the inputs as they are.  Optional inputs have no rows.
    """
    needed = [spec for spec in specs if not spec.optional]
    inner = inner_axes(needed)
    if needed and all(s.leads_with_batch and s.shape[0] not in inner for s in needed):
        return "rows"
    if needed and all(spec.shape and spec.shape[0] == 1 for spec in needed):
        return "single"
    return "whole"


def calls_for(
    specs: Sequence[TensorSpec], pipeline: Pipeline, rows: Sequence[Row], *, chunk: int = CHUNK
) -> list[Call]:
    """Turn instances into calls of at most ``chunk`` rows, and check each against ``specs``.

    Long requests are cut, so that one long series does not pad a thousand short ones.  Instances
    that send an optional input get a call of their own.
    """
    mode = row_mode(specs)
    size = chunk if mode == "rows" else 1
    if any(optional_in(specs, row) for row in rows):
        size = 1
    calls = []
    for start in range(0, len(rows), size):
        group = rows[start : start + size]
        try:
            calls.append(_call(specs, pipeline, group, mode))
        except InvalidRequest:
            # Only now is it worth looking for the instance that is to blame.
            for index, row in enumerate(group, start):
                _blame(specs, pipeline, row, mode, index)
            raise
    return calls


def _call(
    specs: Sequence[TensorSpec], pipeline: Pipeline, group: Sequence[Row], mode: RowMode
) -> Call:
    inputs = group[0]
    if mode != "whole":
        whole = {name: group[0][name] for name in optional_in(specs, group[0])}
        rows = [{n: v for n, v in row.items() if n not in whole} for row in group]
        inputs = {**pipeline.collate(rows), **whole}
    inputs = _with_all_axes(inputs, specs)
    check(inputs, specs)
    return Call(inputs, len(group))


def _with_all_axes(inputs: Row, specs: Sequence[TensorSpec]) -> Row:
    """Give arrays without elements the axes that JSON cannot write, as in [] for [0, 4]."""
    full = dict(inputs)
    for spec in specs:
        value = full.get(spec.name)
        if value is not None and value.size == 0 and spec.shape != ANY_SHAPE:
            missing = spec.wire_shape[value.ndim :]
            full[spec.name] = value.reshape(*value.shape, *(max(0, size) for size in missing))
    return full


def _blame(
    specs: Sequence[TensorSpec], pipeline: Pipeline, row: Row, mode: RowMode, index: int
) -> None:
    try:
        _call(specs, pipeline, [row], mode)
    except InvalidRequest as error:
        raise InvalidRequest(f"instances[{index}]: {error}") from error


def own_rows(value: Tensor, rows: int) -> list[Tensor]:
    """Cut one output of a call into one answer an instance.

    An output without a batch axis belongs to every row of its call.
    """
    if value.ndim and len(value) == rows:
        # The dots keep a row of one element an array.
        return [value[row, ...] for row in range(rows)]
    return [value] * rows
