"""From a data set's examples to the network's tensors, by the pipeline that also serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.contract import Contract, ImagePipeline, SequencePipeline, TextPipeline
from service.pipeline import ImageRows, Pipeline, Row, SequenceRows, TextRows

Rows = NDArray[np.int64]
Inputs = tuple[Tensor, ...]


class Features(Protocol):
    """Examples that can be had as the network's inputs, batch by batch."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def batch(self, rows: Rows) -> Inputs:
        """Return the network's inputs for these examples, in this order."""
        ...


def make_features(contract: Contract, examples: Sequence[Any] | NDArray[Any]) -> Features:
    """Return the examples of one split as features; texts and series are converted at once."""
    config = contract.pipeline
    names = [tensor.name for tensor in contract.inputs]
    if isinstance(config, ImagePipeline):
        return PictureFeatures(ImageRows(config, names[0]), np.asarray(examples))
    if isinstance(config, SequencePipeline):
        series = SequenceRows(config, names[0], names[1])
        scaled = [series.scale(np.asarray(one, np.float32)) for one in examples]
        return RowFeatures(series, scaled, names)
    if isinstance(config, TextPipeline):
        texts = TextRows(config, names[0])
        return RowFeatures(texts, [texts.parse(text) for text in examples], names)
    raise ValueError(f"no features for a pipeline of kind '{config.kind}'")


class PictureFeatures:
    """Pictures [rows, height, width, channels], scaled when asked for: as bytes they are small."""

    def __init__(self, pipeline: ImageRows, pictures: NDArray[np.uint8]) -> None:
        """Keep the pixels as they are."""
        self._pipeline = pipeline
        self._pictures = pictures

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._pictures)

    def batch(self, rows: Rows) -> Inputs:
        """Return one tensor [batch, channels, height, width]."""
        scaled = self._pipeline.pixels(self._pictures[rows])
        return (torch.from_numpy(np.ascontiguousarray(scaled)),)


class RowFeatures:
    """Rows of different lengths; each batch is padded to its own longest row."""

    def __init__(self, pipeline: Pipeline, rows: Sequence[Row], names: Sequence[str]) -> None:
        """Keep the rows, and the names of the network's inputs in its order."""
        self._pipeline = pipeline
        self._rows = rows
        self._names = names

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def batch(self, rows: Rows) -> Inputs:
        """Return the inputs padded as the server pads them."""
        tensors = self._pipeline.collate([self._rows[row] for row in rows])
        return tuple(torch.from_numpy(tensors[name]) for name in self._names)


def shuffled(rows: int, size: int, random: np.random.Generator) -> Iterator[Rows]:
    """Yield all row numbers once, in random order, ``size`` at a time.

    A last single row joins the batch before it: batch statistics need two.
    """
    order = random.permutation(rows)
    ends = [*range(size, rows, size), rows]
    if len(ends) > 1 and rows - ends[-2] == 1:
        del ends[-2]
    start = 0
    for end in ends:
        yield order[start:end]
        start = end


def in_order(rows: int, size: int) -> Iterator[Rows]:
    """Yield all row numbers once, from first to last, ``size`` at a time."""
    for start in range(0, rows, size):
        yield np.arange(start, min(start + size, rows))
