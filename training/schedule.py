"""The optimiser of a recipe, and its learning rate at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from training.binding import Amount, Range, Share


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """How weights move: ``lr`` is the peak, reached after the share ``warmup`` of all steps.

    ``schedule`` "cosine" then goes down to 0 along half a cosine; "constant" stays.  Weight decay
    leaves biases, scales and other vectors alone.  ``clip`` bounds the gradient's norm, 0 does not.
    """

    algorithm: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: Annotated[float, Range(1e-9, 1e3)] = 0.001
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: Share = 0.1
    weight_decay: Amount = 0.01
    momentum: Share = 0.9
    clip: Amount = 1.0


def lr_at(step: int, steps: int, config: OptimConfig) -> float:
    """Return the learning rate of step 0 to ``steps`` - 1."""
    rising = config.warmup * steps
    if step < rising:
        return config.lr * (step + 1) / (rising + 1)
    if config.schedule == "constant":
        return config.lr
    done = (step - rising) / max(1.0, steps - rising)
    return config.lr * (1 + math.cos(math.pi * done)) / 2


def make_optimizer(network: nn.Module, config: OptimConfig) -> Optimizer:
    """Return the optimiser over all weights, those with two axes or more with weight decay."""
    weights = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.algorithm == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)
    made = torch.optim.AdamW if config.algorithm == "adamw" else torch.optim.Adam
    return made(groups, lr=config.lr)
