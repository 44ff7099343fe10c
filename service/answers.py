"""From output tensors to what a caller reads: labels and scores, or plain values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.calls import own_rows, row_mode
from service.contract import Contract
from service.errors import EngineFailure
from service.tensors import BFLOAT16, Tensor, Tensors

Answer = object


def answers(contract: Contract, outputs: Tensors, rows: int) -> list[Answer]:
    """Return one answer a row: label, score and all scores for a classifier, else plain values.

    Raises EngineFailure where a classifier's scores are not one row of its labels an instance.
    """
    if contract.task == "classification" and contract.labels is not None:
        found = own_rows(outputs[contract.answer.name], rows)
        return [_classified(scores, contract.labels) for scores in found]
    names = [output.name for output in contract.outputs if not output.auxiliary]
    if row_mode(contract.input_specs) == "whole":
        # The instance was the inputs as they are, so the answer is the outputs as they are.
        whole = {name: _element(outputs[name]) for name in names}
        return [whole[names[0]] if len(names) == 1 else whole]
    return plain(outputs, names, rows)


def plain(outputs: Tensors, names: Sequence[str], rows: int) -> list[Answer]:
    """Return the rows of the only output, or an object keyed by output where there are several."""
    columns = {n: [_element(row) for row in own_rows(outputs[n], rows)] for n in names}
    if len(names) == 1:
        return list[Answer](columns[names[0]])
    return [{name: column[row] for name, column in columns.items()} for row in range(rows)]


def _element(value: Tensor) -> object:
    array = np.asarray(value)
    if array.dtype.hasobject:
        return array.tolist()
    array = _writable(array)
    if array.ndim:
        return np.ascontiguousarray(array)
    # A row of one number is that number.  A float keeps its width, which decides how it is written;
    # ONNX Runtime's INT64 is numpy's `longlong`, which orjson knows in arrays only.
    return array[()] if array.dtype.kind == "f" else array.item()


def _writable(value: Tensor) -> Tensor:
    # Every bfloat16 has the same digits in FP32, which JSON can be written from.
    return value.astype(np.float32) if value.dtype == BFLOAT16 else value


def _classified(scores: Tensor, labels: Sequence[str]) -> Answer:
    # A graph may declare one shape and answer another.
    if scores.shape != (len(labels),):
        raise EngineFailure(
            f"the model answered scores of shape {list(scores.shape)} for {len(labels)} labels"
        )
    found = _writable(scores)
    best = int(np.argmax(found))
    # As with single elements, only floats may stay numpy's.
    numbers = found if found.dtype.kind == "f" else found.tolist()
    return {
        "label": labels[best],
        "score": numbers[best],
        "scores": dict(zip(labels, numbers, strict=True)),
    }
