"""Proof before traffic: a model must be what its contract says and answer its golden vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import EllipsisType

import numpy as np

from service.calls import calls_for, own_rows
from service.contract import Contract, OutputContract
from service.engine import Engine
from service.errors import (
    EngineFailure,
    InvalidRequest,
    OutOfMemory,
    TooLarge,
    VerificationFailed,
)
from service.golden import MIN_VECTORS, Golden
from service.pipeline import Pipeline, Row
from service.refusals import Refusal
from service.tensors import Tensor, TensorSpec


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked and how far the answers were from the recorded ones."""

    vectors: int
    batch_sizes: tuple[int, ...]
    max_abs_difference: float
    provider: str

    def as_json(self) -> dict[str, object]:
        """Return the figures for model-info."""
        return {**asdict(self), "batch_sizes": list(self.batch_sizes)}


def check_contract(contract: Contract, engine: Engine) -> None:
    """Raise VerificationFailed unless the graph's inputs and outputs are the contract's."""
    _compare("input", contract.input_specs, engine.inputs)
    _compare("output", contract.output_specs, engine.outputs)


def _compare(kind: str, promised: Sequence[TensorSpec], found: Sequence[TensorSpec]) -> None:
    names = [spec.name for spec in promised]
    if names != [spec.name for spec in found]:
        raise VerificationFailed(
            f"the contract has {kind}s {names}, the graph has {[spec.name for spec in found]}",
            Refusal.CONTRACT_MISMATCH,
        )
    for want, have in zip(promised, found, strict=True):
        if (want.datatype, want.shape) != (have.datatype, have.shape):
            raise VerificationFailed(
                f"{kind} '{want.name}': the contract says {want.datatype} {list(want.shape)}, "
                f"the graph has {have.datatype} {list(have.shape)}",
                Refusal.CONTRACT_MISMATCH,
            )


def verify(
    contract: Contract, golden: Golden, engine: Engine, pipeline: Pipeline, *, max_rows: int
) -> Verification:
    """Run the golden vectors through the whole pipeline at batch 1, 2 and ``max_rows``.

    Raises VerificationFailed at the first answer that is outside its output's tolerance or, for a
    classifier, has another label.
    """
    if len(golden) < MIN_VECTORS:
        text = f"{len(golden)} golden vectors, at least {MIN_VECTORS} are needed"
        raise VerificationFailed(text, Refusal.GOLDEN_INVALID)
    missing = [output.name for output in contract.outputs if output.name not in golden.expected]
    if missing:
        text = f"output '{missing[0]}': no golden answers"
        raise VerificationFailed(text, Refusal.GOLDEN_INVALID)
    rows = _rows(golden, pipeline)
    sizes = tuple(sorted({1, 2, max_rows})) if contract.batchable else (1,)
    worst = 0.0
    for size in sizes:
        for indices in _batches(len(golden), size):
            outputs = _run(contract, engine, pipeline, rows, indices)
            for output in contract.outputs:
                expected = [golden.expected[output.name][i] for i in indices]
                got = own_rows(outputs[output.name], size)
                worst = max(worst, _difference(output, got, expected, indices))
            if contract.task == "classification":
                answers = own_rows(outputs[contract.answer.name], size)
                _check_labels(contract, golden, answers, indices)
    return Verification(len(golden), sizes, worst, engine.provider)


def _batches(vectors: int, size: int) -> list[list[int]]:
    """Cover all vectors with batches of exactly ``size``; the last one is filled from the start."""
    return [
        [(start + offset) % vectors for offset in range(size)] for start in range(0, vectors, size)
    ]


def _rows(golden: Golden, pipeline: Pipeline) -> list[Row]:
    try:
        return [pipeline.decode(raw, golden.media_type) for raw in golden.raws]
    except (InvalidRequest, TooLarge) as error:
        text = f"a golden input is refused: {error}"
        raise VerificationFailed(text, Refusal.GOLDEN_INVALID) from error


def _run(
    contract: Contract,
    engine: Engine,
    pipeline: Pipeline,
    rows: Sequence[Row],
    indices: Sequence[int],
) -> dict[str, Tensor]:
    batch = [rows[index] for index in indices]
    names = [output.name for output in contract.outputs]
    try:
        (call,) = calls_for(contract.input_specs, pipeline, batch, chunk=len(batch))
        return engine.run(call.inputs, names)
    except (InvalidRequest, EngineFailure) as error:
        code = Refusal.LOAD_MEMORY if isinstance(error, OutOfMemory) else Refusal.RUN_FAILED
        raise VerificationFailed(
            f"vectors from {indices[0]} on, batch {len(indices)}: {error}", code
        ) from error


def _difference(
    output: OutputContract,
    got: Sequence[Tensor],
    expected: Sequence[Tensor],
    indices: Sequence[int],
) -> float:
    """Return the largest absolute difference; a padded answer is compared over its true part."""
    worst = 0.0
    for index, row, want in zip(indices, got, expected, strict=True):
        # A row alone is not padded, so there only the recorded shape itself is right.
        same_rank = row.ndim == want.ndim and len(indices) > 1
        # The dots keep a single text an array.
        own: tuple[slice | EllipsisType, ...] = (*map(slice, want.shape), ...)
        true_part = row[own] if same_rank else row
        if true_part.shape != want.shape:
            raise VerificationFailed(
                f"output '{output.name}', vector {index}: shape {list(true_part.shape)}, "
                f"recorded {list(want.shape)}",
                Refusal.GOLDEN_MISMATCH,
            )
        if want.dtype.kind != "f":
            if not np.array_equal(true_part, want):
                text = f"output '{output.name}', vector {index}: not as recorded"
                raise VerificationFailed(text, Refusal.GOLDEN_MISMATCH)
            continue
        with np.errstate(invalid="ignore"):
            distance = np.abs(true_part - want)
        if not np.allclose(true_part, want, rtol=output.rtol, atol=output.atol, equal_nan=True):
            seen = float(distance.max())
            raise VerificationFailed(
                f"output '{output.name}', vector {index}, batch {len(indices)}: differs by "
                f"{seen:.3g}, allowed is {output.atol:g} + {output.rtol:g} x |recorded|",
                Refusal.GOLDEN_MISMATCH,
            )
        worst = max(worst, float(distance[np.isfinite(want)].max(initial=0.0)))
    return worst


def _check_labels(
    contract: Contract, golden: Golden, got: Sequence[Tensor], indices: Sequence[int]
) -> None:
    labels = contract.labels or []
    for index, scores in zip(indices, got, strict=True):
        # A graph may declare one shape and answer another.
        if scores.shape != (len(labels),):
            raise VerificationFailed(
                f"vector {index}: scores of shape {list(scores.shape)} for {len(labels)} labels",
                Refusal.GOLDEN_MISMATCH,
            )
        want = labels[int(np.argmax(golden.expected[contract.answer.name][index]))]
        if golden.labels:
            want = golden.labels[index]
        seen = labels[int(np.argmax(scores))]
        if seen != want:
            text = f"vector {index}: answers '{seen}', recorded is '{want}'"
            raise VerificationFailed(text, Refusal.LABEL_MISMATCH)
