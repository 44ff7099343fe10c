"""From a data set to the contract of a model trained on it: scales, bounds and labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.contract import (
    Contract,
    ImagePipeline,
    InputContract,
    OutputContract,
    SequencePipeline,
    TextPipeline,
)
from service.tokens import TokenizerConfig
from training.data.dataset import DataSet, Examples

PROBABILITIES = "probabilities"
WEIGHTS = "attention"


def make_contract(
    dataset: DataSet, tokenizer: TokenizerConfig | None = None, *, heads: int = 1
) -> Contract:
    """Return the contract of a classifier for this data set; scales come from the train split.

    ``tokenizer`` and the attention's ``heads`` belong to texts and only to them.
    """
    if dataset.kind == "image":
        return _image(dataset)
    if dataset.kind == "sequence":
        return _sequence(dataset)
    if tokenizer is None:
        raise ValueError(f"data set '{dataset.name}' holds texts, which need a tokenizer")
    return _text(dataset, tokenizer, heads)


def _image(dataset: DataSet) -> Contract:
    pixels = np.asarray(dataset.train.inputs)
    _, height, width, channels = pixels.shape
    mean = pixels.mean((0, 1, 2)) / 255
    std = np.maximum(pixels.std((0, 1, 2)) / 255, 1e-3)
    shape: list[int | str] = ["batch", channels, height, width]
    return Contract(
        task="classification",
        inputs=[InputContract(name="image", datatype="FP32", shape=shape)],
        outputs=[_probabilities(dataset)],
        pipeline=ImagePipeline(
            height=height,
            width=width,
            channels=3 if channels == 3 else 1,
            mean=_rounded(mean),
            std=_rounded(std),
        ),
        labels=list(dataset.classes),
        batchable=True,
    )


def _sequence(dataset: DataSet) -> Contract:
    series = _series(dataset.train)
    steps = np.concatenate(series)
    channels = steps.shape[1]
    longest = max(len(one) for one in (*series, *_series(dataset.test)))
    return Contract(
        task="classification",
        inputs=[
            InputContract(name="values", datatype="FP32", shape=["batch", "time", channels]),
            InputContract(
                name="lengths", datatype="INT64", shape=["batch"], minimum=1, maximum_axis="time"
            ),
        ],
        outputs=[_probabilities(dataset)],
        pipeline=SequencePipeline(
            channels=channels,
            mean=_rounded(steps.mean(0)),
            std=_rounded(np.maximum(steps.std(0), 1e-6)),
            max_length=_generous(longest),
        ),
        labels=list(dataset.classes),
        batchable=True,
    )


def _text(dataset: DataSet, tokenizer: TokenizerConfig, heads: int) -> Contract:
    ids = InputContract(
        name="ids",
        datatype="INT64",
        shape=["batch", "time"],
        minimum=0,
        maximum=tokenizer.vocabulary - 1,
    )
    weights = OutputContract(
        name=WEIGHTS, datatype="FP32", shape=["batch", heads, "time", "time"], auxiliary=True
    )
    return Contract(
        task="classification",
        inputs=[ids],
        outputs=[_probabilities(dataset), weights],
        pipeline=TextPipeline(tokenizer=tokenizer),
        labels=list(dataset.classes),
        batchable=True,
    )


def _probabilities(dataset: DataSet) -> OutputContract:
    return OutputContract(
        name=PROBABILITIES, datatype="FP32", shape=["batch", len(dataset.classes)]
    )


def _series(examples: Examples) -> list[NDArray[np.float32]]:
    return [np.asarray(series, np.float32) for series in examples.inputs]


def _generous(longest: int) -> int:
    """Return the power of two at or above four times the longest series in the data."""
    return 1 << (4 * longest - 1).bit_length()


def _rounded(values: NDArray[np.floating]) -> list[float]:
    # Seven digits are all that FP32 keeps, and they make a contract that people can read.
    return [float(f"{value:.7g}") for value in values.tolist()]
