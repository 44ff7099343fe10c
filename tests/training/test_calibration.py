"""What `training.calibration` promises: biases that undo a habit, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training.calibration import Shifted, balanced_bias


def answers(counts: tuple[int, ...], bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return noisy logits that lean by ``bias``, and the labels, so many of each class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    right = 2 * nn.functional.one_hot(labels, len(counts)).float()
    noise = torch.randn(right.shape, generator=generator)
    return right + noise + bias, labels


def recalls(logits: Tensor, labels: Tensor) -> list[float]:
    """Return the share of each class that is answered."""
    right = logits.argmax(1) == labels
    return [right[labels == c].float().mean().item() for c in range(logits.shape[1])]


def test_a_leaning_network_is_set_upright() -> None:
    """The bias found is the opposite of the one put in, with the first class as zero."""
    lean = torch.tensor([0.0, -3.0, 1.5])
    logits, labels = answers((2000, 2000, 2000), lean)
    found = balanced_bias(logits, labels)
    assert found[0] == 0
    assert found.tolist() == pytest.approx((-lean).tolist(), abs=0.15)


def test_rare_classes_weigh_as_much_as_frequent_ones() -> None:
    """A class of one in forty is answered about as often as the other, not hardly ever."""
    logits, labels = answers((2000, 50), torch.tensor([0.0, -2.5]))
    assert recalls(logits, labels)[1] < 0.5
    common, rare = recalls(logits + balanced_bias(logits, labels), labels)
    assert common > 0.8
    assert rare > 0.8


def test_no_constant_fits_better() -> None:
    """The mean over classes of their mean losses is at its least."""
    logits, labels = answers((300, 40), torch.tensor([0.5, 0.0]))
    weights = 1 / torch.bincount(labels).float()
    found = balanced_bias(logits, labels)

    def loss(bias: Tensor) -> float:
        return nn.functional.cross_entropy(logits + bias, labels, weight=weights).item()

    for step in (-0.1, 0.1):
        assert loss(found) < loss(found + torch.tensor([0.0, step]))


def test_classes_that_are_never_confused_or_never_there_keep_finite_biases() -> None:
    """Perfect answers push a bias far, but not to infinity; a class without rows none at all."""
    logits = torch.tensor([[9.0, -9.0, 0.0], [-9.0, 9.0, 0.0]])
    found = balanced_bias(logits, torch.tensor([0, 1]))
    assert torch.isfinite(found).all()
    assert found.abs().max() < 10


class Network(nn.Module):
    """Answers with its input as logits, and with something beside them."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, 10 * x


def test_a_shifted_network_adds_its_bias_to_the_logits_alone() -> None:
    """Other outputs are left, and the bias is no weight that training would change."""
    shifted = Shifted(Network(), torch.tensor([0.0, 2.0]))
    logits, other = shifted(torch.ones(1, 2))
    assert logits.tolist() == [[1.0, 3.0]]
    assert other.tolist() == [[10.0, 10.0]]
    assert list(shifted.parameters()) == []
    assert shifted.state_dict()["bias"].tolist() == [0.0, 2.0]
