"""Two convolutional classifiers: the source article's own, and one with class-activation maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]

# Below this, a valid 3x3 convolution of the article's network would have nothing left to look at.
_ARTICLE_SIDE = 18
_GAP_SIDE = 4


@dataclass(frozen=True, slots=True)
class ArticleCnnConfig:
    """The size of the pictures, as channels, height, width, and the number of classes."""

    shape: Shape
    classes: int

    def __post_init__(self) -> None:
        """Refuse pictures that the valid convolutions would use up."""
        _check(self.shape, self.classes, _ARTICLE_SIDE)


@dataclass(frozen=True, slots=True)
class GapCnnConfig:
    """The pictures, the classes, and the network's size.

    The three stages have ``width``, 2 ``width`` and 4 ``width`` channels.  ``dropout`` is the share
    of pooled features hidden while training.
    """

    shape: Shape
    classes: int
    width: int = 32
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        _check(self.shape, self.classes, _GAP_SIDE)
        if self.width < 1:
            raise ValueError(f"width {self.width}: must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout}: must be at least 0 and below 1")


class ArticleCnn(nn.Module):
    """The source article's network, layer by layer; its sizes follow from the pictures.

    Convolution of 32 filters 3x3, ReLU, max-pooling 2x2; convolution of 64, ReLU, max-pooling;
    convolution of 64, ReLU; flatten; dense 64, ReLU; dense to the classes.  Convolutions are valid
    (no padding).  The article's final softmax is added at export.
    """

    def __init__(self, config: ArticleCnnConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.config = config
        channels, height, width = config.shape
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        flat = 64 * _article_side(height) * _article_side(width)
        self.dense = nn.Sequential(nn.Linear(flat, 64), nn.ReLU(), nn.Linear(64, config.classes))

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Return logits [batch, classes] of pictures [batch, channels, height, width]."""
        return (self.dense(self.features(image)),)


class GapCnn(nn.Module):
    """Five convolutions with batch norm, global average pooling, dropout and one linear layer.

    The logits are linear in the mean of the last features, so that the same weights, applied
    before the mean, tell how much each place speaks for each class (Zhou et al., 2016).
    """

    def __init__(self, config: GapCnnConfig) -> None:
        """Make three stages, of one, two and two convolutions, with pooling in between."""
        super().__init__()
        self.config = config
        channels, width = config.shape[0], config.width
        self.stem = _convolution(channels, width, pool=True)
        self.stages = nn.Sequential(
            _convolution(width, 2 * width),
            _convolution(2 * width, 2 * width, pool=True),
            _convolution(2 * width, 4 * width),
            _convolution(4 * width, 4 * width),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(4 * width, config.classes)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Return logits [batch, classes] of pictures [batch, channels, height, width]."""
        pooled = self.features(image).mean((2, 3))
        return (self.head(self.dropout(pooled)),)

    def features(self, image: Tensor) -> Tensor:
        """Return the last features [batch, 4 width, height / 4, width / 4]."""
        states: Tensor = self.stem(image)
        if self.training:
            # Channels last trains a third faster on a CPU; an exported graph has one layout only.
            states = states.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.stages(states)
        return features

    def cam(self, image: Tensor) -> Tensor:
        """Return class-activation maps [batch, classes, height / 4, width / 4].

        The mean of a class's map, plus the head's bias, is the class's logit.
        """
        return torch.einsum("bfhw,cf->bchw", self.features(image), self.head.weight)


class CamExplanation(nn.Module):
    """The class-activation maps of a `GapCnn` as a network of their own, to be exported."""

    def __init__(self, network: GapCnn) -> None:
        """Share the network's layers."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Return the maps [batch, classes, height / 4, width / 4]."""
        return (self.network.cam(image),)


def _convolution(channels: int, filters: int, *, pool: bool = False) -> nn.Sequential:
    # The norm's own shift makes a bias superfluous. Pooled first, a quarter is left to normalise.
    layers: list[nn.Module] = [nn.Conv2d(channels, filters, 3, padding=1, bias=False)]
    layers += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(*layers, nn.BatchNorm2d(filters), nn.ReLU())


def _article_side(size: int) -> int:
    """Return what is left of a side after three valid convolutions and two poolings."""
    return ((size - 2) // 2 - 2) // 2 - 2


def _check(shape: Shape, classes: int, side: int) -> None:
    channels, height, width = shape
    if channels < 1:
        raise ValueError(f"shape {shape}: a picture must have at least 1 channel")
    if min(height, width) < side:
        raise ValueError(
            f"pictures of {height}x{width} are too small: this network needs {side}x{side} or more"
        )
    if classes < 2:
        raise ValueError(f"classes {classes}: must be 2 or more")
