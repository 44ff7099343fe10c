"""The one way in: a spec becomes a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.images import decode_picture, resize
from training.data import DataError, DataSpec, load
from training.data.images import decode

from .fixtures import picture, write_folder


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (DataSpec(), "data.name '': must be one of fashion-mnist, cifar10"),
        (DataSpec("imagenet"), "data.name 'imagenet': must be one of"),
        (DataSpec("cifar10", format="images"), "data.name 'cifar10' is taken"),
        (DataSpec(format="images"), "data.root: must name a file or folder with your images"),
        (DataSpec("spam-assassin", "somewhere"), "data.root must be empty"),
        (DataSpec(format="texts", root="/nowhere/a.jsonl"), "there is no such file or folder"),
        (DataSpec("x", "y", "audio"), "data.format 'audio'"),  # type: ignore[arg-type]
    ],
)
def test_contradictory_specs_are_refused(spec: DataSpec, text: str) -> None:
    """The text names the setting and its value."""
    with pytest.raises(DataError, match=text):
        load(spec)


def test_limit_keeps_part_of_the_training_split() -> None:
    """The test split stays whole, and the source says what was left out."""
    whole, part = load(DataSpec("fashion-mnist")), load(DataSpec("fashion-mnist", limit=200))
    assert (len(part.train), len(part.test)) == (200, 1000)
    assert part.source.endswith("; 200 of 5000 training examples")
    assert part.fingerprint != whole.fingerprint
    assert load(DataSpec("fashion-mnist", limit=5000)).fingerprint == whole.fingerprint


def test_your_data_have_your_name(tmp_path: Path) -> None:
    """A name in the spec is the data set's name."""
    files = {f"{label}/{i}.png": picture(i) for label in "ab" for i in range(3)}
    root = str(write_folder(tmp_path, files))
    assert load(DataSpec("pets", root, "images")).name == "pets"


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_decoded_as_the_service_decodes_them(channels: int) -> None:
    """Training sees the very pixels that serving will see."""
    raw = picture(200, size=(20, 31), mode="RGB", file_format="JPEG", orientation=6)
    served = resize(decode_picture(raw, channels), height=9, width=7)
    assert (decode("x", raw, size=(9, 7), channels=channels) == served).all()
