"""Whether a lower precision is good enough to be published, as rules on plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.contract import Contract, OutputContract
from training.binding import Amount, Share
from training.parity import TOLERANCE, ExportError
from training.statistics import Floats, Labels

Precision = Literal["fp16", "int8"]
Rows = Literal["alone", "together"]

# How far another processor's or a GPU's answers may be from the recorded ones.  FP16 rounds at
# every operator; dynamic 8-bit sums are exact, but a scale that rounds the other way moves them.
_TOLERANCES: dict[Precision, tuple[float, float]] = {"fp16": (5e-3, 1e-2), "int8": (2e-3, 1e-2)}
# Between runs of different numbers of rows FP16 may take other kernels.
_SAME_ROW: dict[Precision, float] = {"fp16": 5e-3, "int8": TOLERANCE}


@dataclass(frozen=True, slots=True)
class Demand:
    """What is to be exported, and what it must keep.

    ``margin`` is how much accuracy may be lost on the rows that decide.  ``speedup`` is how many
    times faster a row alone must be than in FP32; 0 asks for nothing.  ``rows`` says of int8 what
    is converted: "alone" takes all that has an 8-bit form, though a row's answer then depends on
    the rows beside it, so that each runs by itself; "together" takes only tables of embeddings,
    whose rows stay independent.
    """

    precision: Precision
    margin: Share = 0.005
    speedup: Amount = 0.0
    rows: Rows = "alone"

    def __post_init__(self) -> None:
        """Refuse what the precision does not know, or cannot be measured here."""
        if self.precision == "fp16" and self.rows != "alone":
            raise ValueError(f"rows is '{self.rows}': only int8 has this choice")
        if self.precision == "fp16" and self.speedup:
            raise ValueError("speedup: FP16 is for GPUs, and what is measured here is a CPU")


@dataclass(frozen=True, slots=True)
class Difference:
    """The same rows answered in FP32 and in the lower precision; ``split`` is where they lie."""

    split: str
    rows: int
    accuracy_fp32: float
    accuracy: float
    max_abs: float
    labels_changed: int

    @property
    def lost(self) -> float:
        """How much accuracy is lost; below 0 where some is won."""
        return self.accuracy_fp32 - self.accuracy

    def __str__(self) -> str:
        """Say it in a sentence."""
        return (
            f"accuracy {self.accuracy:.4f}, {self.accuracy_fp32:.4f} in FP32, on {self.rows} "
            f"{self.split} rows; {self.labels_changed} of {self.rows} labels changed, largest "
            f"difference {self.max_abs:.3g}"
        )


@dataclass(frozen=True, slots=True)
class Speed:
    """Milliseconds of processor time a row: alone, and in a batch where rows may share a run."""

    alone_ms: float
    together_ms: float | None

    @property
    def served_ms(self) -> float:
        """What a row costs a busy server."""
        return self.alone_ms if self.together_ms is None else min(self.alone_ms, self.together_ms)


@dataclass(frozen=True, slots=True)
class Gain:
    """The two speeds beside each other, on one thread of this machine's processor."""

    fp32: Speed
    lower: Speed

    @property
    def alone(self) -> float:
        """How many times faster a row alone is."""
        return self.fp32.alone_ms / self.lower.alone_ms

    @property
    def served(self) -> float:
        """How many times faster a busy server is, which runs rows together where it may."""
        return self.fp32.served_ms / self.lower.served_ms


def difference(split: str, before: Floats, after: Floats, truth: Labels) -> Difference:
    """Compare probabilities [rows, classes] of the same rows, with the true classes [rows].

    Raises ExportError where an answer is not a number.
    """
    if not np.isfinite(after).all():
        rows = int((~np.isfinite(after)).any(axis=1).sum())
        raise ExportError(f"{rows} of {len(after)} {split} rows have answers that are no numbers")
    labels_before, labels_after = before.argmax(axis=1), after.argmax(axis=1)
    return Difference(
        split=split,
        rows=len(truth),
        accuracy_fp32=float((labels_before == truth).mean()),
        accuracy=float((labels_after == truth).mean()),
        max_abs=float(np.abs(after - before).max(initial=0.0)),
        labels_changed=int((labels_before != labels_after).sum()),
    )


def check(demand: Demand, found: Difference, gain: Gain | None) -> None:
    """Raise ExportError, with the figures, unless what was found keeps what is demanded."""
    # A share of whole rows: a trace of rounding must not refuse what is exactly at the margin.
    if found.lost > demand.margin + 1e-9:
        raise ExportError(
            f"{demand.precision} loses {found.lost:.4f} of accuracy, margin={demand.margin:g} is "
            f"allowed: {found}"
        )
    if gain is not None and gain.alone < demand.speedup:
        raise ExportError(
            f"{demand.precision} makes a row {gain.alone:.2f} times as fast, "
            f"speedup={demand.speedup:g} is demanded: {gain.lower.alone_ms:.3f} ms, "
            f"{gain.fp32.alone_ms:.3f} ms in FP32"
        )


def lower_contract(contract: Contract, demand: Demand, row_alone: float) -> Contract:
    """Return the contract with the tolerances of the precision, and whether rows may share a run.

    ``row_alone`` is the largest difference between a row among others and the same row alone.
    Raises ExportError where rows must stay together and do not.
    """
    independent = row_alone <= _SAME_ROW[demand.precision]
    if demand.rows == "together" and not independent:
        raise ExportError(
            f"rows=together: a row among others differs from the same row alone by {row_alone:.3g}"
        )
    outputs = contract.outputs
    if demand.precision == "fp16" or not independent:
        outputs = [_loose(output, *_TOLERANCES[demand.precision]) for output in outputs]
    batchable = contract.batchable and independent
    return contract.model_copy(update={"outputs": outputs, "batchable": batchable})


def _loose(output: OutputContract, atol: float, rtol: float) -> OutputContract:
    wider = {"atol": max(output.atol, atol), "rtol": max(output.rtol, rtol)}
    return output.model_copy(update=wider)


def clearest(answers: Floats, count: int, gap: float) -> list[int]:
    """Return the rows to be golden: first, in their order, those answered clearly.

    A row is clear if its best class leads by more than ``gap``; on another machine the label of
    any other could change within the tolerance.  The rest follow by their lead.
    """
    best = np.sort(answers, axis=1)
    lead = best[:, -1] - best[:, -2]
    clear = np.flatnonzero(lead > gap).tolist()
    rest = [row for row in np.argsort(-lead, kind="stable").tolist() if lead[row] <= gap]
    return sorted([*clear, *rest][:count])
