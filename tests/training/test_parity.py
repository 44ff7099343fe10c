"""What `training.parity` promises, on networks and graphs made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from service.contract import (
    Contract,
    InputContract,
    OutputContract,
    SequencePipeline,
    TensorPipeline,
    TextPipeline,
)
from service.tokens import TokenizerConfig
from training.parity import ExportError, as_graph, difference, lengths, measure, sample

Array = NDArray[Any]
SERIES = SequencePipeline(channels=2, mean=[0, 0], std=[1, 1], max_length=16)
TEXT = TextPipeline(tokenizer=TokenizerConfig(buckets=20, max_tokens=12))


def contract(
    *inputs: InputContract,
    pipeline: SequencePipeline | TextPipeline | TensorPipeline | None = None,
    batchable: bool = True,
) -> Contract:
    """Return a contract over these inputs with one output of two numbers a row."""
    return Contract(
        task="regression",
        inputs=list(inputs),
        outputs=[OutputContract(name="y", datatype="FP32", shape=["batch", 2])],
        pipeline=pipeline or TensorPipeline(),
        batchable=batchable,
    )


PLAIN = contract(InputContract(name="x", datatype="FP32", shape=["batch", 2]))
OF_SERIES = contract(
    InputContract(name="values", datatype="FP32", shape=["batch", "time", 2]),
    InputContract(name="lengths", datatype="INT64", shape=["batch"], minimum=1),
    pipeline=SERIES,
)
OF_TEXT = contract(
    InputContract(name="ids", datatype="INT64", shape=["batch", "time"], minimum=0, maximum=21),
    pipeline=TEXT,
)


class Network(nn.Module):
    """A network that is any function of its inputs."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        return (self.function(*inputs),)


def graph_of(function: Callable[..., Tensor]) -> Callable[[Sequence[Tensor]], list[Array]]:
    """Return the function as an exported graph would be called."""
    return lambda inputs: [function(*inputs).numpy()]


def doubled(x: Tensor) -> Tensor:
    """Return twice the input."""
    return 2 * x


def mean_of_steps(values: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean over the true steps."""
    real = torch.arange(values.shape[1]) < lengths.unsqueeze(1)
    return (values * real.unsqueeze(2)).sum(1) / lengths.unsqueeze(1)


def careless_mean(values: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean over all steps, padding among them."""
    return values.mean(1) + 0 * lengths.unsqueeze(1)


def count_of_ids(ids: Tensor) -> Tensor:
    """Return how many tokens there are, and their sum."""
    return torch.stack(((ids != 0).sum(1), ids.sum(1)), 1).float()


def test_a_graph_that_is_the_network_passes_with_every_case() -> None:
    """Batches of 1, 2, 7 and 64 by lengths 1, 7 and the longest."""
    found = measure(as_graph(Network(mean_of_steps)), graph_of(mean_of_steps), OF_SERIES)
    assert [(c.batch, c.length) for c in found.cases] == [
        (batch, length) for length in (1, 7, 16) for batch in (1, 2, 7, 64)
    ]
    assert found.max_abs == 0
    assert found.row_alone < 1e-6
    report = found.as_json()
    assert (report["status"], report["tolerance"], report["max_abs"]) == ("passed", 1e-5, 0)
    assert len(found.cases) == 12


def test_a_difference_within_the_tolerance_is_reported() -> None:
    """It is the largest of all cases, absolute and relative."""
    found = measure(as_graph(Network(doubled)), graph_of(lambda x: 2 * x + 5e-6), PLAIN)
    assert found.max_abs == pytest.approx(5e-6, rel=0.1)
    assert float(str(found.as_json()["max_rel"])) > 5e-6


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: 2 * x + 1e-4,
        lambda x: torch.where(torch.arange(len(x)) == 63, 3.0, 2.0).unsqueeze(1) * x,
        lambda x: x / 0,
    ],
    ids=["everywhere", "in one row of 64", "not a number"],
)
def test_a_graph_that_differs_is_refused(wrong: Callable[[Tensor], Tensor]) -> None:
    """However rarely."""
    with pytest.raises(ExportError, match=r"differs from the network by .* at batch \d+, length"):
        measure(as_graph(Network(doubled)), graph_of(wrong), PLAIN)


def test_an_answer_of_another_shape_is_refused() -> None:
    """Both shapes are named."""
    with pytest.raises(ExportError, match=r"shape \(1, 1\), the network gives \(1, 2\)"):
        measure(as_graph(Network(doubled)), graph_of(lambda x: 2 * x[:, :1]), PLAIN)


def over_batch(x: Tensor) -> Tensor:
    """Return each row less the mean of all."""
    return x - x.mean(0)


def test_rows_that_depend_on_each_other_are_refused() -> None:
    """Strangers' requests run together; unless the contract says that they must not."""
    with pytest.raises(ExportError, match="the rows are not independent"):
        measure(as_graph(Network(over_batch)), graph_of(over_batch), PLAIN)
    alone = PLAIN.model_copy(update={"batchable": False})
    assert measure(as_graph(Network(over_batch)), graph_of(over_batch), alone).row_alone == 0


def test_padding_that_leaks_is_refused() -> None:
    """A series in a batch has more steps than the same series alone."""
    with pytest.raises(ExportError, match="padding leaks"):
        measure(as_graph(Network(careless_mean)), graph_of(careless_mean), OF_SERIES)


def test_padding_of_texts_that_leaks_is_refused() -> None:
    """Texts are padded with the id 0; what counts ids passes, what counts places does not."""
    measure(as_graph(Network(count_of_ids)), graph_of(count_of_ids), OF_TEXT)

    def places(ids: Tensor) -> Tensor:
        return torch.full((len(ids), 2), float(ids.shape[1]))

    with pytest.raises(ExportError, match="padding leaks"):
        measure(as_graph(Network(places)), graph_of(places), OF_TEXT)


def test_lengths_follow_from_the_pipeline() -> None:
    """Without a variable axis there is none to try; without a pipeline's bound some are."""
    free = contract(InputContract(name="x", datatype="FP32", shape=["batch", -1]))
    assert lengths(OF_SERIES) == [1, 7, 16]
    assert lengths(OF_TEXT) == [1, 7, 12]
    assert lengths(PLAIN) == [None]
    assert lengths(free) == [1, 7, 33]


@pytest.mark.parametrize("given", [OF_SERIES, OF_TEXT], ids=["series", "texts"])
def test_samples_are_as_ragged_as_what_clients_send(given: Contract) -> None:
    """One row has the full length, others end earlier, and padding is where they have ended."""
    random = np.random.default_rng(0)
    values = sample(given, 64, 12, random)
    ends = values[1] if len(values) == 2 else (values[0] != 0).sum(1)
    assert values[0].shape[:2] == (64, 12)
    assert (int(ends.min()), int(ends.max())) == (1, 12)
    alone = sample(given, 1, 12, random)
    assert int(alone[1][0] if len(alone) == 2 else (alone[0] != 0).sum()) == 12
    if len(values) == 1:
        real = torch.arange(12) < ends.unsqueeze(1)
        assert torch.equal(values[0] != 0, real)
        assert int(values[0].max()) <= 21


@pytest.mark.parametrize(
    ("tensor", "low", "high"),
    [
        (InputContract(name="x", datatype="FP32", shape=["b", 99], minimum=0, maximum=0.5), 0, 0.5),
        (InputContract(name="x", datatype="INT8", shape=["b", 99], minimum=3, maximum=5), 3, 5),
        (InputContract(name="x", datatype="UINT8", shape=["b", 99]), 0, 1),
        (InputContract(name="x", datatype="BOOL", shape=["b", 99]), 0, 1),
    ],
    ids=["floats", "bounded", "unbounded", "booleans"],
)
def test_samples_keep_the_bounds_and_reach_them(
    tensor: InputContract, low: float, high: float
) -> None:
    """Whatever the datatype."""
    value = sample(contract(tensor), 64, None, np.random.default_rng(0))[0].numpy()
    assert (value.min(), value.max()) == (low, high)
    assert value.shape == (64, 99)


def test_what_has_no_random_value_is_refused() -> None:
    """The input and its datatype are named."""
    texts = contract(InputContract(name="x", datatype="BYTES", shape=["batch"]))
    with pytest.raises(ExportError, match="input 'x': no random BYTES"):
        sample(texts, 2, None, np.random.default_rng(0))


def test_what_is_no_number_is_infinitely_far() -> None:
    """A graph must not pass because NaN compares with nothing; nothing at all is equal."""
    one, nan = np.ones(1), np.full(1, np.nan)
    assert difference(one, nan) == difference(nan, one) == difference(nan, nan) == np.inf
    assert difference(np.ones(0), np.ones(0)) == 0
    assert difference(np.array([1, 2], np.uint8), np.array([2, 1], np.uint8)) == 1
