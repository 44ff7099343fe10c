"""Cross-entropy with what a recipe adds: weights by class, smoothing, adjustment by the prior."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(
    counts: Tensor, *, balance: float = 0.0, smoothing: float = 0.0, prior: float = 0.0
) -> Loss:
    """Return the loss of logits [batch, classes] against class indices or shares of classes.

    ``counts`` holds the training rows of each class.  ``balance`` 1 weighs every class alike,
    whatever its count, and 0 every row alike.  ``prior`` adds that many times the log of the
    classes' shares to the logits while training (Menon et al., 2021), so that the bare logits
    answer as if all classes were equally likely.
    """
    shares = counts / counts.sum()
    # A class without rows must not become an infinite weight.
    weights = (shares.clamp(min=1e-6) * len(counts)) ** -balance
    adjustment = prior * shares.clamp(min=1e-6).log()

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(
            logits + adjustment.to(logits),
            target,
            weight=weights.to(logits) if balance else None,
            label_smoothing=smoothing,
        )

    return loss


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """Return how many rows each class has, as floats."""
    return torch.bincount(labels, minlength=classes).float()
