"""What `training.schedule` promises: the learning rate at every step, and who decays."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.schedule import OptimConfig, lr_at, make_optimizer

COSINE = OptimConfig(lr=1.0, schedule="cosine", warmup=0.2)
CONSTANT = OptimConfig(lr=1.0, schedule="constant", warmup=0.0)


def test_the_rate_rises_to_its_peak_and_goes_down_half_a_cosine() -> None:
    """Ten steps: two rise, the third is the peak, and half of the way down is half the rate."""
    rates = [lr_at(step, 10, COSINE) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[6] == pytest.approx(0.5)
    assert rates[9] == pytest.approx(0.5 * (1 - 0.92388), abs=1e-5)


def test_a_constant_rate_stays() -> None:
    """With a rise before it or without."""
    assert [lr_at(step, 4, CONSTANT) for step in range(4)] == [1, 1, 1, 1]
    risen = OptimConfig(lr=0.5, schedule="constant", warmup=0.5)
    assert [lr_at(step, 4, risen) for step in range(4)] == pytest.approx([1 / 6, 1 / 3, 0.5, 0.5])


def test_a_single_step_has_the_peak() -> None:
    """The shortest run learns too."""
    assert lr_at(0, 1, OptimConfig(lr=0.3, warmup=0.0)) == 0.3


@given(
    steps=st.integers(1, 300),
    warmup=st.floats(0, 1),
    lr=st.floats(1e-9, 1e3),
    schedule=st.sampled_from(["constant", "cosine"]),
)
def test_the_rate_is_positive_rises_and_then_never_again(
    steps: int, warmup: float, lr: float, schedule: Literal["constant", "cosine"]
) -> None:
    """It is never above the peak, and every step of a run moves the weights."""
    config = OptimConfig(lr=lr, schedule=schedule, warmup=warmup)
    rates = [lr_at(step, steps, config) for step in range(steps)]
    rising = [rate for step, rate in enumerate(rates) if step < warmup * steps]
    falling = rates[len(rising) :]
    assert all(0 < rate <= lr * (1 + 1e-12) for rate in rates)
    assert rising == sorted(set(rising))
    assert falling == sorted(falling, reverse=True)
    if schedule == "constant":
        assert set(falling) <= {lr}


class Normed(nn.Module):
    """A layer with a norm, and a weight that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.still = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


@pytest.mark.parametrize("algorithm", ["adam", "adamw", "sgd"])
def test_only_matrices_decay(algorithm: Literal["adam", "adamw", "sgd"]) -> None:
    """Biases and scales are left alone, and what is not trained is not there at all."""
    network = Normed()
    optimizer = make_optimizer(network, OptimConfig(algorithm=algorithm, weight_decay=0.1))
    decayed, others = optimizer.param_groups
    assert [p is network.layer.weight for p in decayed["params"]] == [True]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0)
    assert {p.shape for p in others["params"]} == {torch.Size([2])}
    assert len(others["params"]) == 3
    assert type(optimizer).__name__.lower() == algorithm


def test_momentum_may_be_switched_off() -> None:
    """Plain gradient descent moves by rate times gradient and nothing else."""
    layer = nn.Linear(1, 1, bias=False)
    config = OptimConfig(algorithm="sgd", lr=0.5, momentum=0.0, weight_decay=0.0)
    optimizer = make_optimizer(layer, config)
    before = layer.weight.item()
    for _ in range(2):
        optimizer.zero_grad()
        layer(torch.ones(1, 1)).sum().backward()
        optimizer.step()
    assert layer.weight.item() == pytest.approx(before - 1)
