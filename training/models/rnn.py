"""Recurrent classifiers over series of any length: plain tanh, gated, LSTM and GRU cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from training.models.cells import BuiltInLayer, ScanLayer, real_steps
from training.models.masks import lowest

Cell = Literal["tanh", "gated", "lstm", "gru"]
Pooling = Literal["last", "mean", "max", "mean-max", "mean-std-max"]

_SMALL_VARIANCE = 1e-4


@dataclass(frozen=True, slots=True)
class RnnConfig:
    """The series' channels, the classes, and the network's size.

    ``hidden`` is the state's width in each direction.  ``pooling`` makes one vector of all states:
    the last true one of each direction, or figures over the true steps, joined where there are
    several.  ``skip`` pools the series' own channels beside the states, which the head then sees
    without a detour.  ``dropout`` is the share hidden while training between layers and before the
    head.
    """

    channels: int
    classes: int
    cell: Cell = "gru"
    hidden: int = 64
    layers: int = 1
    bidirectional: bool = True
    pooling: Pooling = "mean-max"
    skip: bool = False
    dropout: float = 0.2

    def __post_init__(self) -> None:
        """Refuse sizes and names that cannot be built."""
        for name in ("channels", "classes", "hidden", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}: must be at least 0 and below 1")
        if self.cell not in ("tanh", "gated", "lstm", "gru"):
            raise ValueError(f"cell '{self.cell}': must be tanh, gated, lstm or gru")
        if self.pooling not in get_args(Pooling):
            allowed = ", ".join(get_args(Pooling))
            raise ValueError(f"pooling '{self.pooling}': must be one of {allowed}")
        if self.skip and self.pooling == "last":
            raise ValueError("skip needs a pooling over all steps, not 'last'")


class RnnClassifier(nn.Module):
    """Recurrent layers, pooling over the true steps, dropout, and a linear head.

    With a tanh cell and pooling "last" the head is the article's output o_t = W_ho h_t + b_o at the
    last true step.
    """

    def __init__(self, config: RnnConfig) -> None:
        """Make the layers; each takes the states of both directions of the one before."""
        super().__init__()
        self.config = config
        states = config.hidden * (2 if config.bidirectional else 1)
        sizes = [config.channels] + [states] * (config.layers - 1)
        self.layers = nn.ModuleList(_layer(config, size) for size in sizes)
        self.dropout = nn.Dropout(config.dropout)
        width = states + (config.channels if config.skip else 0)
        self.head = nn.Linear(width * len(config.pooling.split("-")), config.classes)

    def forward(self, values: Tensor, lengths: Tensor) -> tuple[Tensor]:
        """Return logits [batch, classes].

        ``values`` is [batch, time, channels]; ``lengths`` int64 [batch] holds the true lengths, 1
        to time.  What ``values`` holds beyond a row's length never reaches its logits.
        """
        lengths = lengths.clamp(min=1)
        states = values
        for number, layer in enumerate(self.layers):
            states = layer(self.dropout(states) if number else states, lengths)
        if self.config.pooling == "last":
            return (self.head(self.dropout(self._last(states, lengths))),)
        if self.config.skip:
            states = torch.cat((states, values), 2)
        return (self.head(self.dropout(self._pool(states, lengths))),)

    def _pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return one vector [batch, figures * width] of states [batch, time, width]."""
        padding = ~real_steps(states, lengths).unsqueeze(2)
        steps = lengths.unsqueeze(1).to(states.dtype)
        mean = states.masked_fill(padding, 0.0).sum(1) / steps
        figures = self.config.pooling.split("-")
        pooled = [mean] if "mean" in figures else []
        if "std" in figures:
            apart = (states - mean.unsqueeze(1)).masked_fill(padding, 0.0)
            # The root's slope at 0 is infinite, and a series of one step has no spread.
            pooled.append((apart.square().sum(1) / steps + _SMALL_VARIANCE).sqrt())
        if "max" in figures:
            pooled.append(states.masked_fill(padding, lowest(states.dtype)).amax(1))
        return torch.cat(pooled, 1)

    def _last(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return where each direction ends: forward at the last true step, backward at the first.

        A one-hot sum instead of an index keeps the exported graph free of gathers by value.
        """
        steps = torch.arange(states.shape[1], device=states.device)
        ends = (steps == lengths.unsqueeze(1) - 1).unsqueeze(2)
        forward = states.masked_fill(~ends, 0.0).sum(1)
        if not self.config.bidirectional:
            return forward
        hidden = self.config.hidden
        return torch.cat((forward[:, :hidden], states[:, 0, hidden:]), 1)


def _layer(config: RnnConfig, size: int) -> nn.Module:
    if config.cell in ("lstm", "gru"):
        return BuiltInLayer(config.cell, size, config.hidden, bidirectional=config.bidirectional)
    return ScanLayer(config.cell, size, config.hidden, bidirectional=config.bidirectional)
