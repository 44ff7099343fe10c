"""The folders of runs: ``runs/<name>-<n>`` with everything that a run leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from training.binding import RecipeError
from training.recipe import Recipe, load_recipe

RECIPE_FILE = "recipe.toml"
METRICS_FILE = "metrics.json"
CHECKPOINTS = "checkpoints"


def new_run(runs: Path, recipe: Recipe) -> Path:
    """Make the next folder of the recipe's name and write the recipe into it."""
    runs.mkdir(parents=True, exist_ok=True)
    number = max((found for found, _ in _numbered(runs, recipe.name)), default=0) + 1
    while True:
        folder = runs / f"{recipe.name}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            # Another run of the same name has begun in this moment.
            number += 1
            continue
        (folder / RECIPE_FILE).write_text(recipe.to_toml(), encoding="utf-8")
        return folder


def unfinished_run(runs: Path, recipe: Recipe) -> Path:
    """Return the newest folder of this very recipe that has no metrics yet; else RecipeError."""
    for _, folder in sorted(_numbered(runs, recipe.name), reverse=True):
        if not is_finished(folder) and _recipe_of(folder) == recipe:
            return folder
    raise RecipeError(
        f"{runs}: no unfinished run of '{recipe.name}' with this recipe; give the folder of the "
        "run to resume, or leave out --resume"
    )


def is_run(path: Path) -> bool:
    """Whether the folder is a run's."""
    return (path / RECIPE_FILE).is_file()


def is_finished(folder: Path) -> bool:
    """Whether the run has come to its evaluation."""
    return (folder / METRICS_FILE).is_file()


def has_checkpoints(folder: Path) -> bool:
    """Whether anything is left of what the run has learnt."""
    return any((folder / CHECKPOINTS).glob("*.safetensors"))


def _recipe_of(folder: Path) -> Recipe | None:
    try:
        return load_recipe(str(folder))
    except RecipeError:
        # Written by another release, or by hand: then it is not the run that is looked for.
        return None


def _numbered(runs: Path, name: str) -> Iterator[tuple[int, Path]]:
    pattern = re.compile(rf"{re.escape(name)}-([1-9][0-9]{{0,8}})")
    for folder in runs.iterdir() if runs.is_dir() else ():
        match = pattern.fullmatch(folder.name)
        if match and folder.is_dir():
            yield int(match[1]), folder
