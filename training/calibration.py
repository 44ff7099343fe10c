"""Biases of the classes from answers to rows that a network was not trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Shifted(nn.Module):
    """A network whose logits get a constant a class."""

    def __init__(self, network: nn.Module, bias: Tensor) -> None:
        """Wrap a network whose ``forward`` returns logits first."""
        super().__init__()
        self.network = network
        self.register_buffer("bias", bias)
        self.bias: Tensor

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the shifted logits [batch, classes] and the network's other outputs."""
        logits, *others = self.network(*inputs)
        return (logits + self.bias, *others)


def balanced_bias(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the constants [classes] that make held-out logits fit best, each class weighing alike.

    They minimise the mean over classes of the mean cross-entropy in each, which is convex; the
    first is 0.  Trained on few rows of a class a network is rightly slow to answer it; where the
    classes' shares are about to change, that is the wrong habit, and this takes it away.
    """
    counts = torch.bincount(labels, minlength=logits.shape[1]).double()
    weights = torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)
    shift = torch.zeros(logits.shape[1] - 1, dtype=torch.float64, requires_grad=True)
    fixed = logits.detach().double()
    solver = torch.optim.LBFGS([shift], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        moved = fixed + torch.cat((torch.zeros(1, dtype=torch.float64), shift))
        # A trace of a prior keeps a class that is never confused from running to infinity.
        value = nn.functional.cross_entropy(moved, labels, weight=weights) + 1e-4 * (shift**2).sum()
        value.backward()  # type: ignore[no-untyped-call]  # torch's own stubs leave it open
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]  # as above
    return torch.cat((torch.zeros(1), shift.detach().float()))
