"""The whole description of one training run: a frozen value, read from TOML and overrides."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from service.tokens import TokenizerConfig
from training.augment import ImageAugment, SeriesAugment
from training.binding import Amount, Count, Range, RecipeError, Share, bind, override, to_toml
from training.data.spec import DataSpec
from training.models.attention import Score
from training.models.rnn import Cell, Pooling
from training.schedule import OptimConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class CnnModel:
    """A convolutional network with batch norm and global average pooling."""

    family: Literal["cnn"] = "cnn"
    width: Count = 32
    dropout: Share = 0.1


@dataclass(frozen=True, slots=True)
class ArticleCnnModel:
    """The convolutional network of the source article; its sizes follow from the data."""

    family: Literal["cnn-article"] = "cnn-article"


@dataclass(frozen=True, slots=True)
class RnnModel:
    """A recurrent network over the true length of each series."""

    family: Literal["rnn"] = "rnn"
    cell: Cell = "gru"
    hidden: Count = 64
    layers: Count = 1
    bidirectional: bool = True
    pooling: Pooling = "mean-max"
    skip: bool = False
    dropout: Share = 0.2


@dataclass(frozen=True, slots=True)
class AttentionModel:
    """Self-attention over the tokens of a text."""

    family: Literal["attention"] = "attention"
    score: Score = "dot"
    width: Count = 32
    heads: Count = 2
    score_width: Count = 8
    dropout: Share = 0.2
    token_dropout: Share = 0.5
    embedding_std: Amount = 0.1
    tokens: TokenizerConfig = field(default_factory=TokenizerConfig)


Model = CnnModel | ArticleCnnModel | RnnModel | AttentionModel


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How a batch is varied while training; only the section of the data's own kind may be used."""

    image: ImageAugment = field(default_factory=ImageAugment)
    series: SeriesAugment = field(default_factory=SeriesAugment)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The loop: how long, in which batches, judged by what.

    ``validation`` is the share of the training rows that is held back to choose the best epoch; 0
    trains on all and keeps the last.  ``patience`` ends a run after so many epochs without a better
    one.  ``average`` is the decay of the weights' moving average, which is then what is kept; 0
    keeps the weights themselves.  ``balance``, ``smoothing`` and ``prior`` shape the loss, see
    `training.losses`.  ``calibration`` is the number of folds whose held-out answers set the
    classes' biases, see `training.calibration`; 0 leaves them.  ``threads`` 0 takes every core.
    """

    epochs: Count = 10
    batch: Annotated[int, Range(2)] = 64
    validation: Annotated[float, Range(0, 0.9)] = 0.0
    patience: Annotated[int, Range(0)] = 0
    average: Annotated[float, Range(0, 0.9999999)] = 0.0
    balance: Share = 0.0
    smoothing: Annotated[float, Range(0, 0.9)] = 0.0
    prior: Amount = 0.0
    calibration: Annotated[int, Range(0, 20)] = 0
    threads: Annotated[int, Range(0, 1024)] = 0
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    baselines: bool = True

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        if self.patience and not self.validation:
            raise ValueError("patience needs validation above 0: nothing else says what is better")
        if self.calibration == 1:
            raise ValueError("calibration is 1: must be 0 or at least 2 folds")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One run; ``name`` is the model's name in the repository."""

    name: str
    data: DataSpec
    model: Model
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        """Refuse a name that cannot be a folder and a part of an address."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name is '{self.name}': must be 1 to 128 letters, digits, '.', '_' or '-', "
                "a letter or digit first"
            )

    def to_toml(self) -> str:
        """Return the full recipe, defaults written out."""
        return to_toml(self)


def recipe_names() -> list[str]:
    """Return the recipes that come with the package."""
    folder = resources.files("training").joinpath("recipes")
    names = [file.name for file in folder.iterdir() if file.name.endswith(".toml")]
    return sorted(name.removesuffix(".toml") for name in names)


def load_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of this name, or in this ``.toml`` file or run's folder, with overrides.

    Raises RecipeError for an unknown recipe, a file that is not TOML, a wrong key or a wrong value.
    """
    text, where = _text(source)
    return parse_recipe(text, overrides, where)


def parse_recipe(text: str, overrides: Sequence[str] = (), where: str = "recipe") -> Recipe:
    """Return the recipe that a TOML text and ``section.key=value`` overrides describe."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where}: not TOML: {error}") from error
    for assignment in overrides:
        override(Recipe, tree, assignment)
    keys = {assignment.partition("=")[0] for assignment in overrides}
    if "data.format" in keys and "data.name" not in keys:
        # A recipe's data set is not the caller's own data, whatever else is kept of the recipe.
        tree["data"].pop("name", None)
    return bind(Recipe, tree)


def _text(source: str) -> tuple[str, str]:
    path = Path(source)
    inside = path / "recipe.toml"
    # A folder that only happens to be called like a recipe does not hide it.
    file = inside if inside.is_file() else path
    if file.suffix == ".toml":
        try:
            return file.read_text(encoding="utf-8"), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{file}: cannot be read: {error}") from error
    if source not in recipe_names():
        raise RecipeError(
            f"recipe '{source}': unknown; there are {', '.join(recipe_names())}, or give a .toml "
            "file or a run's folder"
        )
    named = resources.files("training").joinpath("recipes", f"{source}.toml")
    return named.read_text(encoding="utf-8"), source
