"""What `training.recipe` promises: one run as one frozen value, from TOML and changes to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.binding import RecipeError
from training.recipe import (
    ArticleCnnModel,
    AttentionModel,
    CnnModel,
    RnnModel,
    load_recipe,
    parse_recipe,
    recipe_names,
)

MINIMAL = "name = 'x'\n[data]\nname = 'fashion-mnist'\n[model]\nfamily = 'cnn'\n"
MODELS = {
    "cnn": CnnModel,
    "cnn-article": ArticleCnnModel,
    "rnn": RnnModel,
    "attention": AttentionModel,
}


def test_every_recipe_of_the_package_binds() -> None:
    """Each can be written out in full and is then the same run."""
    recipes = {name: load_recipe(name) for name in recipe_names()}
    assert set(MODELS) <= set(recipes)
    for name, recipe in recipes.items():
        assert recipe.name == name
        assert parse_recipe(recipe.to_toml()) == recipe


@pytest.mark.parametrize("family", MODELS)
def test_each_family_has_a_recipe_of_its_name(family: str) -> None:
    """What trains without a further word is what the name says."""
    assert isinstance(load_recipe(family).model, MODELS[family])


def test_what_is_not_written_has_its_default() -> None:
    """Name, data and family are a whole recipe."""
    recipe = parse_recipe(MINIMAL)
    assert (recipe.model, recipe.seed) == (CnnModel(), 0)
    assert recipe.train.baselines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seeds=1", r"'seeds': no such key \(did you mean 'seed'\?\); there are name, data"),
        ("train.epoch=1", r"'epoch': no such key in \[train\] \(did you mean 'epochs'\?\)"),
        ("model.hidden=8", r"'hidden': no such key in \[model\].*; there are family, width"),
        ("seed=-1", "seed is -1: must be from 0 to"),
        ("seed=99999999999999999999", "seed is 99999999999999999999: must be from 0 to"),
        ("train.epochs=0", "train.epochs is 0: must be at least 1"),
        ("train.batch=1", "train.batch is 1: must be at least 2"),
        ("train.device=gpu", "train.device is 'gpu': must be 'auto' or 'cpu' or 'cuda'"),
        ("train.validation=1", "train.validation is 1.0: must be from 0 to 0.9"),
        ("train.average=1", "train.average is 1.0: must be from 0 to"),
        ("model.family=cmn", r"family is 'cmn': must be 'cnn' or .* \(did you mean 'cnn'\?\)"),
        ("model.dropout=2", "model.dropout is 2.0: must be from 0 to 1"),
        ("optim.lr=0", "optim.lr is 0.0: must be from 1e-09 to 1000"),
        ("optim.schedule=cosin", r"optim.schedule is 'cosin': .*did you mean 'cosine'\?"),
        ("data.seed=-1", "data.seed is -1: must be at least 0"),
        ("data.limit=-1", "data.limit is -1: must be at least 0"),
        ("data.format=mails", "data.format is 'mails': must be '' or 'images' or 'series' or"),
        ("augment.image.flip=2", "augment.image: flip 2.0: must be 0 to 1"),
        ("train.patience=3", "train: patience needs validation above 0"),
        ("train.calibration=1", "train: calibration is 1: must be 0 or at least 2 folds"),
        ("name=../x", r"name is '\.\./x': must be 1 to 128 letters, digits"),
        ("name=", "name is '': must be 1 to 128 letters"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_what_is_allowed(change: str, message: str) -> None:
    """Whether it stands in the file or comes as a change."""
    with pytest.raises(RecipeError, match=message):
        parse_recipe(MINIMAL, [change])


def test_a_file_is_named_by_its_path(tmp_path: Path) -> None:
    """What ends in .toml is a file; changes come on top of it."""
    file = tmp_path / "mine.toml"
    file.write_text(MINIMAL)
    assert load_recipe(str(file), ["train.epochs=3", "name=y"]).train.epochs == 3
    assert load_recipe(str(file), ["name=y"]).name == "y"


def test_a_folder_of_a_run_holds_its_recipe(tmp_path: Path) -> None:
    """A run can be named where a recipe is asked for."""
    (tmp_path / "recipe.toml").write_text(MINIMAL)
    assert load_recipe(str(tmp_path)) == parse_recipe(MINIMAL)


def test_a_folder_called_like_a_recipe_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a repository of models there is one for each."""
    (tmp_path / "rnn").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe("rnn").model.family == "rnn"


@pytest.mark.parametrize("source", ["cmn", "", "some/folder"])
def test_an_unknown_recipe_is_refused_with_those_there_are(source: str) -> None:
    """A wrong name is most often a slip."""
    with pytest.raises(RecipeError, match=f"recipe '{source}': unknown; there are .*attention"):
        load_recipe(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = ", "x.toml: not TOML"),
        (b"name = '\xe9'", "x.toml: cannot be read"),
        (None, "x.toml: cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    """Damaged, in another encoding or not there."""
    file = tmp_path / "x.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(file))


def test_own_data_are_not_called_like_the_recipes_own() -> None:
    """A format among the changes takes the name of the recipe's data set away."""
    changes = ["data.format=images", "data.root=pets"]
    assert load_recipe("cnn", changes).data.name == ""
    assert load_recipe("cnn", [*changes, "data.name=pets"]).data.name == "pets"
    assert load_recipe("cnn", ["data.limit=10"]).data.name == "fashion-mnist"


def test_tables_of_a_recipe_survive_being_written() -> None:
    """Nested tables and tuples too."""
    changes = ["data.image_size=[8, 9]", 'data.classes=["a", "b"]', "augment.image.flip=0.5"]
    recipe = parse_recipe(MINIMAL, changes)
    assert parse_recipe(recipe.to_toml()) == recipe
    assert (recipe.data.image_size, recipe.data.classes) == ((8, 9), ("a", "b"))
