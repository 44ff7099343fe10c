"""Variations of training batches: pure functions of a batch, a config and a generator.

Without a generator they draw from torch's own, which a run seeds and its checkpoints keep.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class ImageAugment:
    """How pictures vary.

    ``flip`` is the share mirrored left to right, ``shift`` the most pixels moved in each direction,
    ``cutout`` the side of a square that is set to 0, the mean of scaled pictures; 0 does nothing.
    """

    flip: float = 0.0
    shift: int = 0
    cutout: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip {self.flip}: must be 0 to 1")
        _not_negative(shift=self.shift, cutout=self.cutout)


@dataclass(frozen=True, slots=True)
class SeriesAugment:
    """How series vary.

    ``noise`` is the standard deviation of what is added to each number, ``offset`` of what is added
    to all steps of a channel, ``gain`` of the logarithm of what a whole series is multiplied by.
    ``crop`` is the largest share of steps that is cut off, at both ends together.
    """

    noise: float = 0.0
    offset: float = 0.0
    gain: float = 0.0
    crop: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        if not 0 <= self.crop < 1:
            raise ValueError(f"crop {self.crop}: must be at least 0 and below 1")
        _not_negative(noise=self.noise, offset=self.offset, gain=self.gain)


def augment_image(
    image: Tensor, config: ImageAugment, generator: Generator | None = None
) -> Tensor:
    """Return pictures [batch, channels, height, width], each varied in its own way."""
    if config.flip:
        image = _flip(image, config.flip, generator)
    if config.shift:
        image = _shift(image, config.shift, generator)
    if config.cutout:
        image = _cutout(image, config.cutout, generator)
    return image


def augment_series(
    values: Tensor, lengths: Tensor, config: SeriesAugment, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Return varied series [batch, time, channels] and their lengths [batch]; padding becomes 0."""
    if config.crop:
        values, lengths = _crop(values, lengths, config.crop, generator)
    batch, time, channels = values.shape
    if config.gain:
        values = values * torch.exp(config.gain * _normal((batch, 1, 1), values, generator))
    if config.offset:
        values = values + config.offset * _normal((batch, 1, channels), values, generator)
    if config.noise:
        values = values + config.noise * _normal((batch, time, channels), values, generator)
    real = torch.arange(time, device=values.device) < lengths.unsqueeze(1)
    return values.masked_fill(~real.unsqueeze(2), 0.0), lengths


def _crop(
    values: Tensor, lengths: Tensor, most: float, generator: Generator | None
) -> tuple[Tensor, Tensor]:
    """Keep a random run of each series' steps, at least one, moved to its beginning."""
    shares = torch.rand((2, len(values)), generator=generator).to(values.device)
    cut = (shares[0] * most * lengths).long().clamp(max=lengths - 1)
    start = (shares[1] * (cut + 1)).long()
    steps = start.unsqueeze(1) + torch.arange(values.shape[1], device=values.device)
    steps = steps.clamp(max=values.shape[1] - 1)
    moved = values.gather(1, steps.unsqueeze(2).expand(-1, -1, values.shape[2]))
    return moved, lengths - cut


def _flip(image: Tensor, share: float, generator: Generator | None) -> Tensor:
    mirrored = torch.rand((len(image), 1, 1, 1), generator=generator) < share
    return torch.where(mirrored.to(image.device), image.flip(3), image)


def _shift(image: Tensor, most: int, generator: Generator | None) -> Tensor:
    """Move each picture; what moves in at an edge repeats that edge."""
    rows = _moved(len(image), image.shape[2], most, generator).to(image.device)
    columns = _moved(len(image), image.shape[3], most, generator).to(image.device)
    batch = torch.arange(len(image), device=image.device)[:, None, None]
    # [batch, height, width, channels]: the indexed axes come first
    moved = image[batch, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _moved(batch: int, size: int, most: int, generator: Generator | None) -> Tensor:
    """Return where each pixel of a side [batch, size] comes from."""
    start = torch.randint(-most, most + 1, (batch, 1), generator=generator)
    return (start + torch.arange(size)).clamp(0, size - 1)


def _cutout(image: Tensor, side: int, generator: Generator | None) -> Tensor:
    """Set a square to 0; its centre is anywhere, so that a part may lie outside."""
    rows = _inside(len(image), image.shape[2], side, generator).to(image.device)
    columns = _inside(len(image), image.shape[3], side, generator).to(image.device)
    square = (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)
    return image.masked_fill(square, 0.0)


def _inside(batch: int, size: int, side: int, generator: Generator | None) -> Tensor:
    """Return which places of a picture's side [batch, size] lie in a square's."""
    start = torch.randint(0, size, (batch, 1), generator=generator) - side // 2
    places = torch.arange(size)
    return (places >= start) & (places < start + side)


def _normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    # Drawn on the CPU, so that a GPU run varies its batches in the same way.
    return torch.randn(shape, generator=generator, dtype=like.dtype).to(like.device)


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        # Written so that what is not a number is refused too.
        if not value >= 0:
            raise ValueError(f"{name} {value}: must be 0 or more")
