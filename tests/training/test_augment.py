"""What `training.augment` promises: variations that keep shapes, lengths and meaning."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from training.augment import ImageAugment, SeriesAugment, augment_image, augment_series


def seeded(seed: int = 0) -> Generator:
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


def pictures(batch: int = 64) -> Tensor:
    """Return pictures whose pixels are all different and none 0."""
    return torch.arange(1.0, batch * 2 * 6 * 5 + 1).reshape(batch, 2, 6, 5)


def series() -> tuple[Tensor, Tensor]:
    """Return series that count their steps from 1, padded with 0, and their lengths."""
    lengths = torch.arange(1, 41)
    steps = torch.arange(1.0, 41.0)
    values = torch.where(steps <= lengths.unsqueeze(1), steps, 0.0)
    return values.unsqueeze(2).repeat(1, 1, 3), lengths


def test_nothing_configured_changes_nothing() -> None:
    """The default configs return the batch as it is."""
    values, lengths = series()
    varied, kept = augment_series(values, lengths, SeriesAugment())
    assert torch.equal(augment_image(pictures(), ImageAugment()), pictures())
    assert torch.equal(varied, values)
    assert torch.equal(kept, lengths)


def test_the_same_seed_gives_the_same_batch() -> None:
    """All randomness comes from the generator; another seed gives another batch."""
    config = ImageAugment(flip=0.5, shift=2, cutout=3)
    noisy = SeriesAugment(noise=0.1, offset=0.1, gain=0.1, crop=0.5)
    same = [augment_image(pictures(), config, seeded(1)) for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(same[0], augment_image(pictures(), config, seeded(2)))
    first, again = (augment_series(*series(), noisy, seeded(1)) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_the_batch_itself_is_left_alone() -> None:
    """Variations are new tensors."""
    image, (values, lengths) = pictures(), series()
    augment_image(image, ImageAugment(flip=1.0, shift=1, cutout=2))
    augment_series(values, lengths, SeriesAugment(noise=1.0, offset=1.0, gain=1.0, crop=0.9))
    assert torch.equal(image, pictures())
    assert torch.equal(values, series()[0])
    assert torch.equal(lengths, series()[1])


def test_a_share_of_pictures_is_mirrored() -> None:
    """Each picture is itself or its mirror image, in about the share asked for."""
    image = pictures(400)
    varied = augment_image(image, ImageAugment(flip=0.25), seeded())
    mirrored = (varied == image.flip(3)).flatten(1).all(1)
    untouched = (varied == image).flatten(1).all(1)
    assert (mirrored ^ untouched).all()
    assert 60 < int(mirrored.sum()) < 140


def test_a_shift_moves_each_picture_and_repeats_its_edge() -> None:
    """Every outcome is one of the 9 moves by at most a pixel, and all of them occur."""
    image = pictures(200)
    varied = augment_image(image, ImageAugment(shift=1), seeded())
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    moves = [padded[:, :, r : r + 6, c : c + 5] for r in range(3) for c in range(3)]
    found = torch.stack([(varied == move).flatten(1).all(1) for move in moves])
    assert (found.sum(0) == 1).all()
    assert found.any(1).all()


def test_a_cutout_blanks_one_square_in_all_channels() -> None:
    """At most side x side pixels are 0, the same in each channel; the others are untouched."""
    image = pictures()
    varied = augment_image(image, ImageAugment(cutout=3), seeded())
    blank = varied == 0
    assert torch.equal(varied[~blank], image[~blank])
    assert torch.equal(blank[:, 0], blank[:, 1])
    counts = blank[:, 0].sum((1, 2))
    assert int(counts.min()) >= 1
    assert int(counts.max()) == 9
    for square in blank[:, 0]:
        rows, columns = square.any(1).sum(), square.any(0).sum()
        assert int(square.sum()) == int(rows * columns)


@given(crop=st.floats(0, 0.99), seed=st.integers(0, 1000))
def test_a_crop_keeps_a_run_of_true_steps(crop: float, seed: int) -> None:
    """What is left is at least one step and the share promised, in order; the rest is padding."""
    values, lengths = series()
    varied, left = augment_series(values, lengths, SeriesAugment(crop=crop), seeded(seed))
    assert (left >= 1).all()
    assert (left >= lengths * (1 - crop) - 1e-4).all()
    for row, (length, old) in enumerate(zip(left.tolist(), lengths.tolist(), strict=True)):
        steps = varied[row, :length, 0]
        assert steps[0] >= 1
        assert steps[-1] <= old
        assert torch.equal(steps, steps[0] + torch.arange(length))
        assert not varied[row, length:].any()


def test_noise_offset_and_gain_act_on_their_own_axes() -> None:
    """Noise differs by step, an offset by channel, a gain by series; padding stays 0."""
    values, lengths = torch.ones(50, 20, 3), torch.full((50,), 15)
    noise, _ = augment_series(values, lengths, SeriesAugment(noise=0.1), seeded())
    offset, _ = augment_series(values, lengths, SeriesAugment(offset=0.1), seeded())
    gain, _ = augment_series(values, lengths, SeriesAugment(gain=0.1), seeded())
    assert len(set(noise[0, :15, 0].tolist())) == 15
    assert float(noise[:, :15].std()) == pytest.approx(0.1, rel=0.1)
    assert (offset[:, :15] == offset[:, :1]).all()
    assert len(set(offset[0, 0].tolist())) == 3
    assert (gain[:, :15] == gain[:, :1, :1]).all()
    assert len(set(gain[:, 0, 0].tolist())) == 50
    assert (gain[:, :15] > 0).all()
    for varied in (noise, offset, gain):
        assert not varied[:, 15:].any()


@pytest.mark.parametrize(
    ("name", "value"), [("flip", 1.5), ("flip", -0.1), ("shift", -1), ("cutout", -2)]
)
def test_image_values_out_of_range_are_refused(name: str, value: float) -> None:
    """The error names the field and the value."""
    with pytest.raises(ValueError, match=f"{name} {value}"):
        ImageAugment(**{name: value})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("name", "value"),
    [("noise", -1.0), ("offset", -0.5), ("gain", -0.1), ("crop", 1.0), ("noise", math.nan)],
)
def test_series_values_out_of_range_are_refused(name: str, value: float) -> None:
    """The error names the field and the value."""
    with pytest.raises(ValueError, match=f"{name} {value}"):
        SeriesAugment(**{name: value})
