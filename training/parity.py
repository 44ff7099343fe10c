"""Parity: the exported graph against the network it came from, over batch sizes and lengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.contract import Contract, InputContract, SequencePipeline, TextPipeline
from service.errors import ServiceError
from service.tensors import DATATYPES

BATCH_SIZES = (1, 2, 7, 64)
LENGTHS = (1, 7)
TOLERANCE = 1e-5
_GENERIC_LENGTH = 33

Array = NDArray[Any]
Graph = Callable[[Sequence[Tensor]], list[Array]]


class ExportError(ServiceError):
    """The export was refused; nothing was published."""

    code = "export_refused"


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison: largest absolute and relative difference over all outputs."""

    batch: int
    length: int | None
    max_abs: float
    max_rel: float


@dataclass(frozen=True, slots=True)
class Parity:
    """All comparisons of one export, the largest difference that was allowed, and to what.

    ``row_alone`` is the largest difference between a row inside a padded batch and the same row
    alone without padding: the proof that rows are independent and padding never reaches an answer.
    """

    cases: tuple[Case, ...]
    row_alone: float
    tolerance: float = TOLERANCE
    against: str = ""

    @property
    def max_abs(self) -> float:
        """The largest absolute difference to the network."""
        return max(case.max_abs for case in self.cases)

    def as_json(self) -> dict[str, object]:
        """Return the content of ``parity.json``."""
        return {
            # A lower precision is judged by its answers to real rows, see `training.gate`.
            "status": "passed" if math.isfinite(self.tolerance) else "measured",
            "against": self.against or f"torch {torch.__version__.split('+')[0]}",
            "onnxruntime": ort.__version__,
            "tolerance": self.tolerance if math.isfinite(self.tolerance) else None,
            "max_abs": self.max_abs,
            "max_rel": max(case.max_rel for case in self.cases),
            "row_alone_max_abs": self.row_alone,
            "cases": [
                {"batch": c.batch, "length": c.length, "max_abs": c.max_abs, "max_rel": c.max_rel}
                for c in self.cases
            ],
        }


def as_graph(network: nn.Module) -> Graph:
    """Return the network as a function from torch inputs to numpy outputs."""

    def run(inputs: Sequence[Tensor]) -> list[Any]:
        with torch.inference_mode():
            return [answer.numpy() for answer in network(*inputs)]

    return run


def measure(
    reference: Graph,
    graph: Graph,
    contract: Contract,
    *,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Parity:
    """Compare the graph with its reference on random inputs, and its rows with themselves alone.

    Raises ExportError for a difference over the tolerance, 1e-5 if nothing else is said.
    """
    random = np.random.default_rng(seed)
    cases = []
    for length in lengths(contract):
        for batch in BATCH_SIZES:
            inputs = sample(contract, batch, length, random)
            cases.append(_compare(reference, graph, inputs, length))
    worst = max(cases, key=lambda case: case.max_abs)
    if not worst.max_abs <= tolerance:
        raise ExportError(
            f"the exported graph differs from the network by {worst.max_abs:.3g} at batch "
            f"{worst.batch}, length {worst.length}; at most {tolerance:g} is allowed"
        )
    row_alone = _rows_alone(graph, contract, random) if contract.batchable else 0.0
    if not row_alone <= tolerance:
        raise ExportError(
            f"a row in a batch differs from the same row alone by {row_alone:.3g}; at most "
            f"{tolerance:g} is allowed, so the rows are not independent or padding leaks"
        )
    return Parity(tuple(cases), row_alone, tolerance)


def lengths(contract: Contract) -> list[int | None]:
    """Return the lengths to try: 1, 7 and the longest that the pipeline lets through."""
    if isinstance(contract.pipeline, SequencePipeline):
        return [*LENGTHS, contract.pipeline.max_length]
    if isinstance(contract.pipeline, TextPipeline):
        return [*LENGTHS, contract.pipeline.tokenizer.max_tokens]
    if any(_variable_axes(tensor) for tensor in contract.inputs):
        return [*LENGTHS, _GENERIC_LENGTH]
    return [None]


def sample(
    contract: Contract, batch: int, length: int | None, random: np.random.Generator
) -> list[Tensor]:
    """Return random inputs within the contract's bounds, with true lengths from 1 to ``length``."""
    steps = length or 1
    true_lengths = random.integers(1, steps + 1, batch)
    true_lengths[random.integers(batch)] = steps
    values = []
    for index, tensor in enumerate(contract.inputs):
        shape = [
            batch if i == 0 and isinstance(size, str) else size
            for i, size in enumerate(tensor.shape)
        ]
        sizes = [size if isinstance(size, int) and size >= 0 else steps for size in shape]
        if isinstance(contract.pipeline, SequencePipeline) and index == 1:
            value = true_lengths.astype(DATATYPES[tensor.datatype].numpy)
        else:
            value = _random(tensor, sizes, random)
        if isinstance(contract.pipeline, TextPipeline):
            # Position 0 always holds a token, and a token is never the padding id.
            value = np.maximum(value, 1) * (np.arange(steps) < true_lengths[:, None])
        values.append(torch.from_numpy(value))
    return values


def _variable_axes(tensor: InputContract) -> list[int | str]:
    return [size for size in tensor.shape[1:] if isinstance(size, str) or size < 0]


def _random(tensor: InputContract, sizes: Sequence[int], random: np.random.Generator) -> Array:
    kind = DATATYPES[tensor.datatype].numpy
    if kind.kind == "f":
        low = -np.inf if tensor.minimum is None else tensor.minimum
        high = np.inf if tensor.maximum is None else tensor.maximum
        return np.clip(random.standard_normal(sizes), low, high).astype(kind)
    if kind.kind == "b":
        return random.integers(0, 2, sizes).astype(kind)
    if kind.kind not in "iu":
        raise ExportError(f"input '{tensor.name}': no random {tensor.datatype} to compare with")
    low = 0 if tensor.minimum is None else int(tensor.minimum)
    high = low + 1 if tensor.maximum is None else int(tensor.maximum)
    return random.integers(low, high, sizes, endpoint=True).astype(kind)


def _compare(reference: Graph, graph: Graph, inputs: Sequence[Tensor], length: int | None) -> Case:
    wanted, got = reference(inputs), graph(inputs)
    max_abs = max_rel = 0.0
    for want, have in zip(wanted, got, strict=True):
        if want.shape != have.shape:
            raise ExportError(f"an output has shape {have.shape}, the network gives {want.shape}")
        max_abs = max(max_abs, difference(want, have))
        scale = np.maximum(np.abs(want), 1e-6)
        max_rel = max(max_rel, float((np.abs(want - have) / scale).max(initial=0.0)))
    return Case(len(inputs[0]), length, max_abs, max_rel)


def difference(want: Array, have: Array) -> float:
    """Return the largest absolute difference; infinite where one side is not a number."""
    apart = np.abs(want.astype(np.float64) - have.astype(np.float64))
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))


def _rows_alone(graph: Graph, contract: Contract, random: np.random.Generator) -> float:
    """Compare each row of a batch, padded to the longest, with the same row alone, unpadded."""
    length = lengths(contract)[-1]
    together = sample(contract, BATCH_SIZES[2], length, random)
    answers = graph(together)
    worst = 0.0
    for row in range(BATCH_SIZES[2]):
        alone = _alone(contract, together, row)
        for batch_answer, own_answer in zip(answers, graph(alone), strict=True):
            own = own_answer[0]
            true_part = batch_answer[row][tuple(slice(size) for size in own.shape)]
            worst = max(worst, difference(own, true_part))
    return worst


def _alone(contract: Contract, inputs: Sequence[Tensor], row: int) -> list[Tensor]:
    single = [tensor[row : row + 1] for tensor in inputs]
    if isinstance(contract.pipeline, SequencePipeline):
        return [single[0][:, : int(single[1][0])].contiguous(), single[1]]
    if isinstance(contract.pipeline, TextPipeline):
        return [single[0][:, : int((single[0] != 0).sum())].contiguous()]
    return single
