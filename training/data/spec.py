"""Which data a run uses: the values a recipe gives for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from training.binding import Range

Format = Literal["", "images", "series", "texts"]


@dataclass(frozen=True, slots=True)
class DataSpec:
    """A data set by name, or your own data by format and place.

    ``name`` is fashion-mnist, cifar10, japanese-vowels or spam-assassin, or what you call your own
    data; ``root`` is a file, folder or archive; ``format`` says how your own data lie there.
    ``classes`` fixes their classes and the order of them, else they are those found, sorted.
    They are split by ``split_column`` where it is given, by train and test folders or files where
    there are such, and else ``test_fraction`` of each class is drawn with ``seed``. ``limit`` keeps
    at most so many training examples. ``image_size`` is height and width, by default the most
    common among the pictures.
    """

    name: str = ""
    root: str = ""
    format: Format = ""
    classes: tuple[str, ...] = ()
    split_column: str = ""
    test_fraction: float = 0.2
    seed: Annotated[int, Range(0)] = 0
    limit: Annotated[int, Range(0)] = 0
    image_size: tuple[int, int] | None = None
