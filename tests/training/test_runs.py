"""What `training.runs` promises about the folders of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training.binding import RecipeError
from training.recipe import Recipe, load_recipe, parse_recipe
from training.runs import (
    CHECKPOINTS,
    METRICS_FILE,
    RECIPE_FILE,
    has_checkpoints,
    is_finished,
    is_run,
    new_run,
    unfinished_run,
)


@pytest.fixture
def recipe() -> Recipe:
    """Return a recipe whose name holds a dot, which is no pattern."""
    text = "name = 'a.b'\n[data]\nname = 'fashion-mnist'\n[model]\nfamily = 'cnn'\n"
    return parse_recipe(text)


def test_runs_of_a_name_are_numbered(tmp_path: Path, recipe: Recipe) -> None:
    """From 1, after the highest there is, and each holds its recipe."""
    runs = tmp_path / "deep" / "runs"
    first, second = new_run(runs, recipe), new_run(runs, replace(recipe, seed=3))
    (runs / "a.b-9").mkdir()
    third = new_run(runs, recipe)
    assert [folder.name for folder in (first, second, third)] == ["a.b-1", "a.b-2", "a.b-10"]
    assert load_recipe(str(second)) == replace(recipe, seed=3)


@pytest.mark.parametrize("other", ["axb-7", "a.b-07", "a.b-x", "a.b-7-8", "b-7", "a.b-7.old"])
def test_other_names_do_not_count(tmp_path: Path, recipe: Recipe, other: str) -> None:
    """Only folders of the very name and a number."""
    (tmp_path / other).mkdir()
    assert new_run(tmp_path, recipe).name == "a.b-1"


def test_a_name_that_is_taken_meanwhile_is_passed_over(tmp_path: Path, recipe: Recipe) -> None:
    """A file in the way is nobody's run, and is left as it is."""
    (tmp_path / "a.b-1").write_text("mine")
    assert new_run(tmp_path, recipe).name == "a.b-2"
    assert (tmp_path / "a.b-1").read_text() == "mine"


def test_the_newest_unfinished_run_of_a_recipe_is_found(tmp_path: Path, recipe: Recipe) -> None:
    """Not one that is finished, nor one of another seed, nor one whose recipe cannot be read."""
    wanted = [new_run(tmp_path, recipe) for _ in range(3)][1]
    (tmp_path / "a.b-3" / METRICS_FILE).write_text("{}")
    new_run(tmp_path, replace(recipe, seed=1))
    (tmp_path / "a.b-5").mkdir()
    (new_run(tmp_path, recipe) / RECIPE_FILE).write_text("from = 'another release'")
    assert unfinished_run(tmp_path, recipe) == wanted


def test_none_to_resume_is_said_so(tmp_path: Path, recipe: Recipe) -> None:
    """Also where there are no runs at all."""
    for runs in (tmp_path, tmp_path / "none"):
        with pytest.raises(RecipeError, match=r"no unfinished run of 'a\.b' with this recipe"):
            unfinished_run(runs, recipe)


def test_a_folder_shows_how_far_its_run_is(tmp_path: Path, recipe: Recipe) -> None:
    """By the files that it has."""
    assert not is_run(tmp_path)
    folder = new_run(tmp_path, recipe)
    assert is_run(folder)
    assert not has_checkpoints(folder)
    assert not is_finished(folder)
    (folder / CHECKPOINTS).mkdir()
    assert not has_checkpoints(folder)
    (folder / CHECKPOINTS / "last.safetensors").touch()
    (folder / METRICS_FILE).touch()
    assert has_checkpoints(folder)
    assert is_finished(folder)
