"""Which jobs have shapes that fit together, and how shorter rows are padded to longer ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.contract import Contract, SequencePipeline, TextPipeline
from service.scheduling import bucket_of
from service.tensors import ANY_SHAPE, Tensor, Tensors, TensorSpec, stack

_TIME = 1


@dataclass(frozen=True, slots=True)
class Padding:
    """Where a model takes padded rows: zeros behind along axis 1 of ``name``.

    ``lengths`` is the input that says where each row ends, if there is one.  ``outputs`` are the
    axes that are as long as the padded input, by the output's name.
    """

    name: str
    lengths: str | None
    outputs: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Layout:
    """What of a model's inputs varies from job to job, beside the number of rows.

    ``varying`` names the inputs that have variable axes behind the first, with these axes; without
    any where not even their number is known.
    """

    varying: tuple[tuple[str, tuple[int, ...]], ...] = ()
    padding: Padding | None = None

    def length(self, inputs: Tensors) -> int:
        """Return the size of the longest variable axis, 0 where there is none."""
        longest = 0
        for name, axes in self.varying:
            shape = inputs[name].shape
            sizes = [shape[axis] for axis in axes] if axes else shape[1:]
            longest = max(longest, *sizes, 0)
        return longest

    def key(self, inputs: Tensors, wanted: tuple[str, ...]) -> Hashable | None:
        """Return what jobs have in common whose rows may be stacked, and padded where allowed.

        None is a job that must run alone: rows that claim to be longer than they are would take
        the padding for values.
        """
        padding = self.padding
        if padding is not None:
            length = inputs[padding.name].shape[_TIME]
            if padding.lengths and inputs[padding.lengths].max(initial=0) > length:
                return None
            return bucket_of(length), wanted
        if not self.varying:
            return wanted
        return tuple([inputs[name].shape[1:] for name, _ in self.varying]), wanted

    def join(self, parts: Sequence[Tensors]) -> dict[str, Tensor]:
        """Stack the rows of jobs of one key; shorter ones are padded to the longest among them."""
        name = self.padding.name if self.padding else ""
        lengths = {part[name].shape[_TIME] for part in parts} if name else set()
        if len(lengths) < 2:
            return stack(parts)
        rest = [{key: value for key, value in part.items() if key != name} for part in parts]
        return {**stack(rest), name: _padded([part[name] for part in parts], max(lengths))}

    def cut(self, outputs: dict[str, Tensor], inputs: Tensors) -> dict[str, Tensor]:
        """Return a job's outputs without what belongs to the padding of its inputs."""
        if self.padding is None:
            return outputs
        length = inputs[self.padding.name].shape[_TIME]
        for name, axes in self.padding.outputs.items():
            if name in outputs:
                value = outputs[name]
                inside = [
                    slice(length) if axis in axes else slice(None) for axis in range(value.ndim)
                ]
                outputs[name] = value[tuple(inside)]
        return outputs


def layout_of(contract: Contract) -> Layout:
    """Return the layout of a model's inputs, optional ones left out: who sends one runs alone."""
    varying = []
    for spec in contract.input_specs:
        axes = _variable(spec)
        if not spec.optional and (axes or spec.shape == ANY_SHAPE):
            varying.append((spec.name, axes))
    return Layout(tuple(varying), padding_of(contract))


def padding_of(contract: Contract) -> Padding | None:
    """Return how rows may be padded, or None where the contract does not say that they may.

    Series carry their lengths, and in texts the padding has an id of its own: there the graph masks
    what is behind the end.  A length of the outputs that is not the input's cannot be cut back.
    """
    if not contract.batchable:
        return None
    if not isinstance(contract.pipeline, (SequencePipeline, TextPipeline)):
        return None
    padded, *lengths = contract.input_specs
    if _variable(padded) != (_TIME,) or not isinstance(padded.shape[_TIME], str):
        return None
    time = padded.shape[_TIME]
    outputs = {}
    for spec in contract.output_specs:
        axes = _variable(spec)
        if spec.shape == ANY_SHAPE or any(spec.shape[axis] != time for axis in axes):
            return None
        if axes:
            outputs[spec.name] = axes
    return Padding(padded.name, lengths[0].name if lengths else None, outputs)


def _variable(spec: TensorSpec) -> tuple[int, ...]:
    """Return the axes behind the first that may have any size."""
    if spec.shape == ANY_SHAPE:
        return ()
    return tuple(
        axis for axis, size in enumerate(spec.shape) if axis and (isinstance(size, str) or size < 0)
    )


def _padded(values: Sequence[Tensor], length: int) -> Tensor:
    """Stack arrays [rows, time, ...] into [all rows, length, ...], zeros behind the short ones."""
    first = values[0]
    joined = np.zeros((sum(map(len, values)), length, *first.shape[2:]), first.dtype)
    start = 0
    for value in values:
        joined[start : start + len(value), : value.shape[1]] = value
        start += len(value)
    return joined
