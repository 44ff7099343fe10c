"""What `training.losses` promises."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from training.losses import class_counts, make_loss

LOGITS = torch.tensor([[2.0, -1.0], [0.5, 0.3], [-1.0, 1.0], [0.2, 0.1]])
TARGET = torch.tensor([0, 0, 0, 1])
COUNTS = torch.tensor([3.0, 1.0])


def test_the_plain_loss_is_cross_entropy() -> None:
    """Without extras nothing is added."""
    loss = make_loss(COUNTS)(LOGITS, TARGET)
    assert loss.item() == pytest.approx(cross_entropy(LOGITS, TARGET).item())


def test_balance_weighs_every_class_alike() -> None:
    """The loss is then the mean of the classes' own mean losses."""
    rows = cross_entropy(LOGITS, TARGET, reduction="none")
    expected = (rows[:3].mean() + rows[3]) / 2
    assert make_loss(COUNTS, balance=1.0)(LOGITS, TARGET).item() == pytest.approx(expected.item())


def test_the_prior_is_added_to_the_logits() -> None:
    """Logits that equal minus the log prior leave nothing but chance."""
    prior = torch.tensor([0.75, 0.25]).log()
    loss = make_loss(COUNTS, prior=1.0)(-prior.repeat(4, 1), TARGET)
    assert loss.item() == pytest.approx(torch.tensor(2.0).log().item())


def test_smoothing_costs_a_sure_answer() -> None:
    """With smoothing a right and sure answer is no longer free."""
    sure, target = torch.tensor([[30.0, 0.0]]), torch.tensor([0])
    assert make_loss(COUNTS)(sure, target).item() == pytest.approx(0.0)
    assert make_loss(COUNTS, smoothing=0.1)(sure, target).item() == pytest.approx(1.5)


def test_a_class_without_rows_leaves_the_loss_finite() -> None:
    """A user's split may lack a class."""
    loss = make_loss(torch.tensor([4.0, 0.0]), balance=1.0, prior=1.0)(LOGITS, TARGET)
    assert torch.isfinite(loss)


def test_shares_of_classes_are_a_target_too() -> None:
    """Mixed examples carry how much they are of each class."""
    mixed = torch.nn.functional.one_hot(TARGET, 2).float()
    loss = make_loss(COUNTS, balance=0.0)
    assert loss(LOGITS, mixed).item() == pytest.approx(loss(LOGITS, TARGET).item())


def test_counts_cover_classes_that_do_not_occur() -> None:
    """There is a count for every class, as floats."""
    assert class_counts(torch.tensor([0, 2, 2]), 4).tolist() == [1.0, 0.0, 2.0, 0.0]
