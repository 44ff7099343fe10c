"""What the tests of training share: tiny data, and one run of each family, published once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .tiny import (
    Run,
    Said,
    StopAt,
    Workshop,
    say,
    write_data,
    write_recipe,
    write_softmax,
    write_vectors,
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Keep torch to one thread: tiny networks gain nothing from more, and machines are shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return where the data for each family lie."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Return an empty repository and folder of runs."""
    root = tmp_path_factory.mktemp("workshop")
    return Workshop(root / "models", root / "runs")


@pytest.fixture(scope="session")
def pictures(workshop: Workshop, roots: dict[str, Path]) -> Run:
    """Return a run of a network with class-activation maps, told as JSON."""
    recipe = write_recipe(workshop.runs.parent, "cnn", roots["cnn"])
    said = say(recipe, *workshop.options, "--output", "json")
    assert said.code == 0, said.err
    return Run(said, recipe, workshop.runs / "pictures-1", workshop.repository / "pictures" / "1")


@pytest.fixture(scope="session")
def stops(workshop: Workshop, roots: dict[str, Path]) -> list[Said]:
    """Return what a run of a recurrent network said when it was stopped, after epoch 1 and 2."""
    recipe = write_recipe(workshop.runs.parent, "rnn", roots["rnn"], "train.epochs=3")
    first = say(recipe, *workshop.options, err=StopAt("epoch 1/3"))
    second = say(recipe, *workshop.options, "--resume", err=StopAt("epoch 2/3"))
    return [first, second]


@pytest.fixture(scope="session")
def series(workshop: Workshop, stops: list[Said]) -> Run:
    """Return the same run, gone on with by its folder to its end."""
    assert [said.code for said in stops] == [130, 130]
    folder = workshop.runs / "series-1"
    said = say(folder, "--resume", *workshop.options, "--output", "json")
    assert said.code == 0, said.err
    recipe = workshop.runs.parent / "rnn.toml"
    return Run(said, recipe, folder, workshop.repository / "series" / "1")


@pytest.fixture(scope="session")
def texts(workshop: Workshop, roots: dict[str, Path]) -> Run:
    """Return a calibrated run with baselines, in a process of its own whose locale is ASCII."""
    recipe = write_recipe(workshop.runs.parent, "attention", roots["attention"])
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "training", recipe, *workshop.options],
        env=os.environ | plain,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    said = Said(done.returncode, done.stdout, done.stderr)
    assert said.code == 0, said.err
    return Run(said, recipe, workshop.runs / "texts-1", workshop.repository / "texts" / "1")


@pytest.fixture(scope="session")
def article(workshop: Workshop, roots: dict[str, Path]) -> Run:
    """Return the first of two runs with different seeds, told as JSON."""
    recipe = write_recipe(workshop.runs.parent, "cnn-article", roots["cnn-article"])
    said = say(recipe, *workshop.options, "--seeds", "3, 4", "--output", "json")
    assert said.code == 0, said.err
    return Run(said, recipe, workshop.runs / "article-1", workshop.repository / "article" / "1")


@pytest.fixture(scope="session")
def packed(workshop: Workshop) -> Path:
    """Return a bundle that no recipe made."""
    root = workshop.runs.parent
    model, vectors = write_softmax(root / "x.onnx", ["n", 3]), write_vectors(root / "x.npz")
    said = say(
        *("pack", model, "--inputs", vectors, "--name", "packed", "--labels", "a, b,c"),
        *workshop.options[:2],
    )
    assert said.code == 0, said.err
    assert said.out == f"{workshop.repository / 'packed' / '1'}\n"
    return Path(said.out.strip())
