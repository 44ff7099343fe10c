"""What the command line of training promises to shells: texts, exit codes, one line an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import __version__

from .tiny import StopAt, Workshop, say, write_recipe

VERBS = ("train", "list", "evaluate", "export", "pack", "compare", "data")


def test_the_version_is_the_packages() -> None:
    """There is one."""
    said = say("--version")
    assert (said.code, said.out) == (0, f"onnxport-train {__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_names_every_verb(arguments: list[str]) -> None:
    """Asked for, or because nothing was."""
    said = say(*arguments)
    assert said.code == (0 if arguments else 2)
    for verb in VERBS:
        assert f" {verb} " in said.out + said.err


def test_data_alone_shows_what_can_be_done_with_them() -> None:
    """A group without a verb is a question."""
    said = say("data")
    assert said.code == 2
    assert "check" in said.out + said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cmn"], "recipe 'cmn': unknown; there are attention, "),
        (["cnn", "train.epoch=1"], "'epoch': no such key in [train] (did you mean 'epochs'?)"),
        (["train", "cnn", "--name", "a b"], "name is 'a b': must be 1 to 128 letters"),
        (["cnn", "--seeds", "1,x"], "--seeds '1,x': must be whole numbers with commas between"),
        (["cnn", "--seeds", "²"], "--seeds '²': must be whole numbers"),
        (["cnn", "--seeds", "99999999999999999999"], "seed is 99999999999999999999: must be from"),
        (["data", "check", "cnn", "data.limit=x"], "data.limit is 'x': must be a whole number"),
    ],
)
def test_a_wrong_recipe_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """The word train may be left out; nothing is made."""
    monkeypatch.chdir(tmp_path)
    said = say(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"onnxport-train: {message}")
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["cnn", "--seed", "-1"], ["list", "--all"], ["evaluate"]])
def test_a_wrong_use_has_exit_code_2(arguments: list[str]) -> None:
    """Options that there are not, or that lack something."""
    assert say(*arguments).code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "nowhere: neither a bundle nor a folder with versions of one"),
        (["compare", "nowhere"], "nowhere: neither a bundle"),
        (["data", "check", "cifar10"], "cifar10: data.root must name"),
        (["pack", "no.onnx", "--inputs", "no.npz", "--name", "x"], "no.npz: not an npz file"),
    ],
)
def test_what_fails_is_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """An answer, not a crash."""
    monkeypatch.chdir(tmp_path)
    said = say(*arguments)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"onnxport-train: {message}")
    assert said.err.count("\n") == 1


def test_a_training_that_diverges_is_told(roots: dict[str, Path], workshop: Workshop) -> None:
    """With the epoch and the setting to change."""
    recipe = write_recipe(workshop.runs.parent, "cnn-article", roots["cnn-article"], "name=wild")
    steep = ["optim.algorithm=sgd", "optim.lr=1000", "train.epochs=9"]
    said = say(recipe, *steep, *workshop.options)
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("onnxport-train: train_loss is nan in epoch ")


def test_a_damaged_checkpoint_is_told(roots: dict[str, Path], tmp_path: Path) -> None:
    """By its name, before anything is trained over it."""
    write_recipe(tmp_path, "rnn", roots["rnn"]).rename(tmp_path / "recipe.toml")
    checkpoint = tmp_path / "checkpoints" / "last.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"damaged")
    said = say(tmp_path, "--resume")
    assert said.code == 1
    last = said.err.splitlines()[-1]
    assert last.startswith(f"onnxport-train: {checkpoint}: not a checkpoint of ours")
    assert checkpoint.read_bytes() == b"damaged"


def test_an_interrupt_has_the_exit_code_that_shells_know() -> None:
    """Also where there is nothing to go on with, and without a word."""
    said = say("list", out=StopAt("cifar10"))
    assert (said.code, said.err) == (130, "")
