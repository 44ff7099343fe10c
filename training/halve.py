"""Half precision as torch itself gives it: the network's own numbers, halved, never a converter."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Halved(nn.Module):
    """A network in FP16 between FP32 inputs and outputs, so that its contract stays what it was."""

    def __init__(self, network: nn.Module) -> None:
        """Copy the network, whose ``forward`` returns a tuple of tensors, and halve the copy."""
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, computed in FP16; whole numbers pass as they are."""
        halves = [value.half() if value.is_floating_point() else value for value in inputs]
        answers = self.network(*halves)
        return tuple(value.float() if value.is_floating_point() else value for value in answers)


def fits_half(network: nn.Module) -> str:
    """Return the first weight that FP16 cannot hold, "" if it holds them all."""
    largest = torch.finfo(torch.float16).max
    for name, weight in network.state_dict().items():
        if weight.is_floating_point() and not bool((weight.abs() <= largest).all()):
            return name
    return ""
