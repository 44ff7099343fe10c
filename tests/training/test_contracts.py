"""What `training.contracts` promises: scales, bounds and labels that follow from the data."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from service.contract import ImagePipeline, SequencePipeline, TextPipeline
from service.tokens import TokenizerConfig
from training.contracts import make_contract
from training.data import DataSet, Examples, make_dataset

LABELS = np.array([0, 1], np.int64)


def dataset(train: object, test: object) -> DataSet:
    """Return a data set of two rows a split, of the classes no and yes."""
    parts = [Examples(inputs, LABELS) for inputs in (train, test)]  # type: ignore[arg-type]  # of any kind
    return make_dataset("mine", ("no", "yes"), parts[0], parts[1], source="", license="")


def pictures(*values: int, channels: int = 1) -> NDArray[np.uint8]:
    """Return pictures of 4 x 6, each of one value."""
    grey = np.array(values, np.uint8)[:, None, None, None]
    return np.broadcast_to(grey, (len(values), 4, 6, channels)).copy()


def series(*lengths: int) -> tuple[NDArray[np.float32], ...]:
    """Return series of two channels that count their steps from 0, the second tenfold."""
    steps = [np.arange(length, dtype=np.float32) for length in lengths]
    return tuple(np.stack((one, 10 * one), 1) for one in steps)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_scaled_by_the_train_split(channels: int) -> None:
    """Mean and deviation are of all its pixels, a channel each, on the scale from 0 to 1."""
    contract = make_contract(
        dataset(pictures(0, 255, channels=channels), pictures(9, 9, channels=channels))
    )
    pipeline = contract.pipeline
    assert isinstance(pipeline, ImagePipeline)
    assert (pipeline.height, pipeline.width, pipeline.channels) == (4, 6, channels)
    assert pipeline.mean == [0.5] * channels
    assert pipeline.std == [0.5] * channels
    assert contract.inputs[0].shape == ["batch", channels, 4, 6]
    assert contract.outputs[0].shape == ["batch", 2]
    assert (contract.task, contract.labels) == ("classification", ["no", "yes"])
    assert contract.batchable


def test_pictures_that_are_all_alike_are_not_divided_by_zero() -> None:
    """A channel without any spread keeps a small one."""
    pipeline = make_contract(dataset(pictures(7, 7), pictures(7, 8))).pipeline
    assert isinstance(pipeline, ImagePipeline)
    assert pipeline.std == [0.001]


def test_series_are_scaled_by_the_steps_of_the_train_split() -> None:
    """Each channel for itself, padding not among them."""
    contract = make_contract(dataset(series(1, 3), series(2, 5)))
    pipeline = contract.pipeline
    assert isinstance(pipeline, SequencePipeline)
    steps = np.array([0, 0, 1, 2])
    assert pipeline.mean == pytest.approx([steps.mean(), 10 * steps.mean()])
    assert pipeline.std == pytest.approx([steps.std(), 10 * steps.std()], rel=1e-6)
    assert [tensor.shape for tensor in contract.inputs] == [["batch", "time", 2], ["batch"]]
    assert (contract.inputs[1].minimum, contract.inputs[1].maximum_axis) == (1, "time")


@pytest.mark.parametrize(("longest", "allowed"), [(1, 4), (4, 16), (5, 32), (16, 64), (17, 128)])
def test_clients_may_send_series_four_times_as_long(longest: int, allowed: int) -> None:
    """The bound is a power of two, and the test split counts too."""
    pipeline = make_contract(dataset(series(1, 1), series(1, longest))).pipeline
    assert isinstance(pipeline, SequencePipeline)
    assert pipeline.max_length == allowed


def test_series_that_never_move_are_not_divided_by_zero() -> None:
    """A constant channel keeps a small spread."""
    still = (np.ones((3, 1), np.float32), np.ones((2, 1), np.float32))
    pipeline = make_contract(dataset(still, still)).pipeline
    assert isinstance(pipeline, SequencePipeline)
    assert pipeline.std == [1e-6]


def test_texts_bring_their_tokenizer_and_bounds_of_ids() -> None:
    """An id outside the embedding would fail a whole batch, so the contract knows the last one."""
    tokenizer = TokenizerConfig(buckets=30, max_tokens=8)
    contract = make_contract(dataset(("a", "b"), ("c", "d")), tokenizer, heads=3)
    assert contract.pipeline == TextPipeline(tokenizer=tokenizer)
    assert (contract.inputs[0].minimum, contract.inputs[0].maximum) == (0, 31)
    weights = contract.outputs[1]
    assert weights.shape == ["batch", 3, "time", "time"]
    assert weights.auxiliary
    assert contract.answer.name == "probabilities"


def test_texts_without_a_tokenizer_are_refused() -> None:
    """The data set is named."""
    with pytest.raises(ValueError, match="data set 'mine' holds texts, which need a tokenizer"):
        make_contract(dataset(("a", "b"), ("c", "d")))
