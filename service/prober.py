"""Whether rows may share a run: found by asking the model, never read off the names of its axes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.errors import EngineFailure, InvalidRequest
from service.samples import MAX_ELEMENTS, ROWS, STYLES, random_rows
from service.tensors import Tensor, Tensors, TensorSpec, inner_axes

Run = Callable[[Tensors, Sequence[str], float], dict[str, Tensor]]
_TOGETHER, _PERMUTED, _AMONG_OTHERS = (0, 1, 2), (2, 1, 0), (1, 1, 2)
# Of all free axes but the first.  Many graphs take any size; some take what their windows divide,
# or the one size that they were trained with.
_SIZES = (4, 32, 48, 64, 224, 512, 1)
_PATIENCE = 3


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """What a probe may cost: seconds in all, and elements of one input of three rows.

    The seconds are of this thread's processor time, so that a busy machine does not decide; by the
    clock a probe may last three times as long.  Once something was found, further values are tried
    only within ``more_seconds``.
    """

    seconds: float = 5.0
    more_seconds: float = 1.0
    elements: int = MAX_ELEMENTS


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found: rows are independent ("yes"), are not ("no"), or nothing could be seen."""

    verdict: Literal["yes", "no", "unknown"]
    why: str

    def as_json(self) -> dict[str, object]:
        """Return the finding for model-info."""
        return {"rows_independent": self.verdict == "yes", "why": self.why}


@dataclass(frozen=True, slots=True)
class _Tolerance:
    """How far floats may differ: relative to each, and relative to the largest."""

    each: float
    largest: float


# Between runs of as many rows nothing but the neighbours' values differs.  Another number of rows
# takes other kernels, whose rounding a network can amplify; it still must be the same answer.
_TIGHT, _LOOSE = _Tolerance(1e-3, 1e-4), _Tolerance(5e-2, 2e-2)


def probe(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    run: Run,
    *,
    limits: ProbeLimits | None = None,
    seed: int = 0,
) -> Probe:
    """Run three random rows alone, together, permuted and beside others, and compare the answers.

    ``run`` gets tensors, the outputs wanted and the seconds it may take, and raises InvalidRequest
    or EngineFailure.  The same seed asks the same questions.  A model that takes none of the
    values tried, or answers all of them alike, is "unknown".
    """
    structural = _no_batch_axis(inputs, outputs)
    if structural:
        return Probe("no", structural)
    limits = limits or ProbeLimits()
    asked = _Asked([spec.name for spec in outputs], run, limits)
    found: list[Probe] = []
    reason = ""
    for size in _SIZES:
        for style in STYLES:
            rows = random_rows(inputs, size, style, limits.elements, seed)
            if rows is None or asked.seconds_left(found) <= 0:
                continue
            try:
                alone = [asked.run(rows, (index,)) for index in range(ROWS)]
            except (InvalidRequest, EngineFailure) as error:
                reason = reason or str(error)
                continue
            found.append(_compare(rows, alone, asked))
        if found:
            return _verdict(found)
    return Probe("unknown", f"no random input was found that the model takes: {reason}")


def _no_batch_axis(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """Return why the declared shapes alone forbid to stack rows, "" if they do not."""
    if not inputs:
        return "the model needs no input"
    tensors = [("input", s) for s in inputs] + [("output", s) for s in outputs]
    for kind, spec in tensors:
        if not spec.leads_with_batch:
            shape = f"shape {list(spec.shape)}" if spec.is_tensor else f"type {spec.datatype}"
            return f"{kind} '{spec.name}' has {shape}, without a free first axis"
    inner = inner_axes(inputs)
    for kind, spec in tensors:
        if spec.shape[0] in inner:
            return f"{kind} '{spec.name}' leads with '{spec.shape[0]}', an inner axis of an input"
    return ""


class _Asked:
    """Runs of one model, until the time is up."""

    def __init__(self, names: Sequence[str], run: Run, limits: ProbeLimits) -> None:
        self._names = names
        self._run = run
        self._limits = limits
        self._started = time.thread_time(), time.monotonic()

    def seconds_left(self, found: Sequence[Probe] = ()) -> float:
        limit = self._limits.more_seconds if found else self._limits.seconds
        busy, clock = time.thread_time() - self._started[0], time.monotonic() - self._started[1]
        return limit - max(busy, clock / _PATIENCE)

    def run(self, rows: Sequence[Tensors], indices: Sequence[int]) -> dict[str, Tensor]:
        """Return the outputs for these rows in one call."""
        seconds = self.seconds_left()
        if seconds <= 0:
            raise EngineFailure(f"not answered within {self._limits.seconds:g} s")
        joined = {n: np.concatenate([rows[index][n] for index in indices]) for n in rows[0]}
        return self._run(joined, self._names, _PATIENCE * seconds)


def _compare(rows: Sequence[Tensors], alone: Sequence[dict[str, Tensor]], asked: _Asked) -> Probe:
    try:
        together, permuted, others = (
            asked.run(rows, indices) for indices in (_TOGETHER, _PERMUTED, _AMONG_OTHERS)
        )
        problems = {
            name: _problem([answer[name] for answer in alone], value, permuted[name], others[name])
            for name, value in together.items()
        }
        name, problem = next(((n, p) for n, p in problems.items() if p), ("", ""))
        if problem and not _alike(together[name], asked.run(rows, _TOGETHER)[name], _TIGHT):
            problem = "is not the same when asked twice"
    except (InvalidRequest, EngineFailure) as error:
        if asked.seconds_left() <= 0:
            return Probe("unknown", f"three rows together: {error}")
        return Probe("no", f"rows that it takes alone, it does not take together: {error}")
    if problem:
        return Probe("no", f"output '{name}' {problem}")
    if all(_alike(alone[0][n], alone[index][n], _TIGHT) for n in together for index in (1, 2)):
        return Probe("unknown", "different rows got the same answer, so nothing could be seen")
    return Probe("yes", f"{ROWS} random rows answer alone, together and in any order alike")


def _problem(alone: Sequence[Tensor], together: Tensor, permuted: Tensor, others: Tensor) -> str:
    """Return in which way one output shows that rows are not independent, "" if it does not."""
    for count, value in ((1, alone[0]), (ROWS, together), (ROWS, permuted), (ROWS, others)):
        if not value.ndim or len(value) != count:
            return f"has shape {list(value.shape)} for {count} rows"
    stayed = _alike(together[1:2], permuted[1:2], _TIGHT) and _alike(
        together[1:], others[1:], _TIGHT
    )
    own = all(
        _alike(alone[index], batch[place : place + 1], _LOOSE)
        for batch, order in ((together, _TOGETHER), (permuted, _PERMUTED))
        for place, index in enumerate(order)
    )
    return "" if stayed and own else "of a row depends on the rows beside it"


def _verdict(found: Sequence[Probe]) -> Probe:
    """Return the finding of several tries: one "no" outweighs all, any "yes" the unknown."""
    for verdict in ("no", "yes"):
        for one in found:
            if one.verdict == verdict:
                return one
    return found[0]


def _alike(one: Tensor, other: Tensor, tolerance: _Tolerance) -> bool:
    """Whether two answers are the same but for rounding; NaN equals NaN."""
    if one.shape != other.shape:
        return False
    if one.dtype.hasobject:
        pairs = zip(one.flat, other.flat, strict=True)
        return all(_same_value(a, b, tolerance) for a, b in pairs)
    if one.dtype.kind in "biu":
        return np.array_equal(one, other)
    # Half precision has three decimal places, and its last one is rounding.
    factor = 20 if one.dtype.itemsize == 2 else 1
    wide, against = one.astype(np.float64), other.astype(np.float64)
    largest = float(np.abs(wide[np.isfinite(wide)]).max(initial=0.0))
    absolute = factor * tolerance.largest * largest
    return np.allclose(wide, against, factor * tolerance.each, absolute, equal_nan=True)


def _same_value(one: object, other: object, tolerance: _Tolerance) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return False
        mine, theirs = (np.asarray([value[key] for key in one]) for value in (one, other))
        return _alike(mine, theirs, tolerance)
    return bool(one == other)
