"""What the verbs of `onnxport-train` promise, asked as a person or a script would."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from service.bundle import read_bundle
from training.command import tell
from training.recipe import load_recipe, recipe_names
from training.run import Outcome

from .tiny import Run, Said, StopAt, Workshop, say, write_recipe


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give tables room, so that a name is not cut."""
    monkeypatch.setenv("COLUMNS", "200")


def test_a_run_told_as_json_names_what_it_made(pictures: Run, workshop: Workshop) -> None:
    """One object on standard output, and nothing else."""
    told = pictures.said.json()
    metrics = json.loads((pictures.folder / "metrics.json").read_text())
    parity = read_bundle(pictures.bundle).report("parity")
    assert parity is not None
    assert told == {
        "name": "pictures",
        "version": 1,
        "bundle": str(pictures.bundle),
        "run": str(pictures.folder),
        "seed": 0,
        "accuracy": metrics["accuracy"],
        "f1_macro": metrics["macro"]["f1"],
        "parity_max_abs": parity["max_abs"],
        "training_seconds": metrics["training"]["seconds"],
        "baselines": [],
    }
    assert pictures.said.out.count("\n") == 1


def test_progress_is_told_apart_from_the_result(pictures: Run) -> None:
    """A line before the first epoch and one an epoch on standard error, where it is no terminal."""
    lines = pictures.said.err.splitlines()
    assert re.fullmatch(r"pictures: \d+ examples, on cpu", lines[0])
    assert lines[1].startswith("pictures: epoch 1/2 train_loss ")
    assert "validation_accuracy" in lines[2]
    assert lines[3] == "pictures: exporting"


def test_a_run_told_as_text_shows_its_figures_beside_the_baselines(texts: Run) -> None:
    """And where everything is."""
    out = texts.said.out.splitlines()
    assert out[0].split() == ["model", "accuracy", "macro", "F1", "training", "s"]
    assert out[1].startswith("attention, seed 0")
    assert "TF-IDF with naive Bayes" in texts.said.out
    assert str(texts.bundle) in out[-1]
    assert str(texts.folder) in out[-1]
    assert "texts: fold 2/2" in texts.said.err
    assert "texts: TF-IDF with naive Bayes" in texts.said.err


def test_a_stopped_run_says_how_to_go_on(stops: list[Said], workshop: Workshop) -> None:
    """With the exit code that shells know an interrupt by, and the command in full."""
    folder, repository = workshop.runs / "series-1", workshop.repository
    command = f"onnxport-train {folder} --resume --repository {repository}"
    for said in stops:
        assert said.code == 130
        assert said.out == ""
        assert said.err.endswith(f"\nstopped; go on with: {command}\n")


def test_a_run_goes_on_where_it_was_stopped(stops: list[Said], series: Run) -> None:
    """Named by its recipe or by its folder; no epoch is trained twice, no folder made anew."""
    epochs = [
        [line.split()[2] for line in said.err.splitlines() if ": epoch " in line]
        for said in (*stops, series.said)
    ]
    assert epochs == [["1/3"], ["2/3"], ["3/3"]]
    assert [path.name for path in series.folder.parent.glob("series-*")] == ["series-1"]
    assert series.said.json()["run"] == str(series.folder)


def test_a_finished_run_is_not_resumed(series: Run, workshop: Workshop) -> None:
    """Neither by its folder nor by its recipe; the error says what can be done."""
    by_folder = say(series.folder, "--resume", *workshop.options)
    assert (by_folder.code, by_folder.out) == (2, "")
    assert "this run is finished; publish it again with 'export'" in by_folder.err
    by_recipe = say(series.recipe, "--resume", *workshop.options)
    assert by_recipe.code == 2
    assert "no unfinished run of 'series' with this recipe" in by_recipe.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.epochs=9"], "is resumed as it began, without train.epochs=9"),
        (["--seed", "3"], "is resumed as it began, without seed=3"),
        (["--seeds", "0,1"], "--resume goes on with one run: name it by its folder, without"),
    ],
)
def test_a_run_is_resumed_as_it_began(
    roots: dict[str, Path], tmp_path: Path, arguments: list[str], message: str
) -> None:
    """Anything else would be another run."""
    write_recipe(tmp_path, "rnn", roots["rnn"]).rename(tmp_path / "recipe.toml")
    said = say(tmp_path, "--resume", *arguments, "--repository", tmp_path / "models")
    assert said.code == 2
    assert message in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


def test_only_the_first_of_several_seeds_is_published(article: Run, workshop: Workshop) -> None:
    """The others stay in their runs' folders; the mean is told with all of them."""
    told = article.said.json()
    second = workshop.runs / "article-2"
    assert (told["seed"], told["bundle"]) == (3, str(article.bundle))
    assert [one["seed"] for one in told["seeds"]] == [3, 4]
    assert told["seeds"][1]["bundle"] == str(second / "models" / "article" / "1")
    mean = sum(one["accuracy"]["value"] for one in told["seeds"]) / 2
    assert told["accuracy_mean"] == pytest.approx(mean)
    assert load_recipe(str(second)).seed == 4
    assert [path.name for path in (workshop.repository / "article").iterdir()] == ["1"]


def test_several_seeds_told_as_text_have_a_row_each_and_a_mean(
    article: Run, workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the place of the one that is published."""
    folders = [article.folder, workshop.runs / "article-2"]
    bundles = [article.bundle, folders[1] / "models" / "article" / "1"]
    outcomes = [
        Outcome(folder, read_bundle(bundle), json.loads((folder / "metrics.json").read_text()))
        for folder, bundle in zip(folders, bundles, strict=True)
    ]
    tell(outcomes, as_json=False)
    rows = capsys.readouterr().out.splitlines()
    assert [row.partition("  ")[0] for row in rows[1:3]] == [f"cnn-article, seed {n}" for n in "34"]
    mean = sum(outcome.accuracy for outcome in outcomes) / 2
    assert rows[3] == f"mean accuracy of 2 seeds: {mean:.4f}"
    assert rows[4] == f"published {article.bundle}, report in {article.folder}"


def test_another_seed_that_is_stopped_goes_on_beside_its_run(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    """Resuming it publishes where it would have been published, not over the first."""
    recipe = write_recipe(tmp_path, "cnn-article", roots["cnn-article"])
    places = ("--repository", tmp_path / "models", "--runs", tmp_path / "my runs")
    stop = StopAt("epoch 1/1", times=2)
    said = say(recipe, "--seeds", "1,2", "--name", "other", *places, err=stop)
    folder = tmp_path / "my runs" / "other-2"
    again = f"onnxport-train '{folder}' --resume --repository '{folder / 'models'}'"
    assert said.code == 130
    assert said.err.endswith(f"stopped; go on with: {again}\n")
    assert (tmp_path / "models" / "other" / "1" / "bundle.json").is_file()


def test_a_finished_run_is_published_again(article: Run, tmp_path: Path) -> None:
    """Under the next version, without training, with the same network in it."""
    shutil.copytree(article.bundle, tmp_path / "article" / "4")
    before = (article.folder / "metrics.json").read_text()
    folder = shutil.copytree(article.folder, tmp_path / "run")
    said = say("export", folder, "--repository", tmp_path, "--output", "json")
    told = said.json()
    assert (told["version"], told["bundle"]) == (5, str(tmp_path / "article" / "5"))
    assert "epoch" not in said.err
    again, first = read_bundle(tmp_path / "article" / "5"), read_bundle(article.bundle)
    assert again.read("model.onnx") == first.read("model.onnx")
    metrics = json.loads(before)
    assert told["accuracy"] == metrics["accuracy"]
    assert told["training_seconds"] == metrics["training"]["seconds"]


def test_what_has_no_network_is_not_published(
    article: Run, roots: dict[str, Path], tmp_path: Path
) -> None:
    """No folder of a run, one that has not ended, and one without checkpoints."""
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    write_recipe(unfinished, "rnn", roots["rnn"]).rename(unfinished / "recipe.toml")
    emptied = shutil.copytree(article.folder, tmp_path / "emptied")
    shutil.rmtree(emptied / "checkpoints")
    for folder, message in (
        (tmp_path, "not the folder of a finished run"),
        (unfinished, "not the folder of a finished run"),
        (emptied, "has no checkpoints, and they alone hold the network"),
    ):
        said = say("export", folder, "--repository", tmp_path / "models")
        assert (said.code, said.out) == (2, "")
        assert said.err == f"onnxport-train: {folder}: {message}\n"
    assert not (tmp_path / "models").exists()


def test_a_bundle_is_measured_again(texts: Run, roots: dict[str, Path]) -> None:
    """On the data that one names; as JSON the figures are those of its metrics."""
    said = say("evaluate", texts.bundle.parent, "--data", roots["attention"], "--output", "json")
    told, metrics = said.json(), read_bundle(texts.bundle).report("metrics")
    assert metrics is not None
    assert told["bundle"] == str(texts.bundle)
    assert (told["accuracy"], told["confusion"]) == (metrics["accuracy"], metrics["confusion"])
    as_text = say("evaluate", texts.bundle, "--data", roots["attention"]).out
    for words in ("späm", "ham", "mean over classes", f"accuracy {told['accuracy']['value']:.4f}"):
        assert words in as_text


def test_bundles_stand_side_by_side(texts: Run, packed: Path) -> None:
    """As a table with gaps, or as a list of objects with nulls."""
    told = say("compare", texts.bundle, packed.parent, "--output", "json").json()
    assert [one["bundle"] for one in told] == ["texts/1", "packed/1"]
    assert (told[0]["accuracy"] is None, told[1]["accuracy"]) == (False, None)
    table = say("compare", texts.bundle, packed.parent).out.splitlines()
    assert table[1].split()[:2] == ["texts/1", f"{told[0]['accuracy']['value']:.4f}"]
    assert table[2].split() == ["packed/1", "-", "-", "-", f"{told[1]['model_bytes']:,}", "-"]


def test_recipes_are_listed_with_network_and_data() -> None:
    """All that come with the package."""
    rows = [row.split() for row in say("list").out.splitlines()]
    assert [row[0] for row in rows[1:]] == recipe_names()
    assert ["cnn", "cnn", "fashion-mnist"] in rows


def test_data_are_described_with_what_is_suspicious(roots: dict[str, Path], tmp_path: Path) -> None:
    """As text for people or JSON for scripts; own data need no recipe of their own."""
    own = ["data.format=series", f"data.root={roots['rnn']}"]
    told = say("data", "check", "rnn", *own, "--output", "json").json()
    assert told["data"]["name"] == "series.npz"
    assert told["data"]["splits"]["train"]["rows"] == 24
    assert told["warnings"] == []
    as_text = say("data", "check", "rnn", *own).out
    assert as_text.startswith("series.npz: sequence data, series.npz\n  nothing suspicious\n{")
    few = say("data", "check", "rnn", *own, "data.limit=4").out
    assert "class 'falling' has 2 training examples" in few
