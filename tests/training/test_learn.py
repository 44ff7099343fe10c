"""What `training.learn` promises, for every family on tiny data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from training.calibration import Shifted, balanced_bias
from training.groups import fold_numbers
from training.learn import Learnt, Stage, learn
from training.loop import fit
from training.task import Task, make_task

from .tiny import tiny_recipe


@dataclass
class Heard:
    """A listener that remembers, and stops everything after so many epochs, folds included."""

    stop_after: int = 0
    epochs: int = 0
    shares: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        self.epochs += 1
        if self.epochs == self.stop_after:
            raise KeyboardInterrupt

    def batch(self, share: float) -> None:
        self.shares.append(share)

    def note(self, text: str) -> None:
        self.notes.append(text)


def task_of(roots: dict[str, Path], family: str, *changes: str) -> Task:
    """Return the task of a tiny recipe of this family."""
    return make_task(tiny_recipe(family, roots[family], *changes))


def assert_same(one: Learnt, other: Learnt) -> None:
    """Expect the same weights to the last bit, and the same history but for the clock."""
    weights, others = one.network.state_dict(), other.network.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    histories = [[{**epoch, "seconds": 0} for epoch in learnt.history] for learnt in (one, other)]
    assert histories[0] == histories[1]
    assert one.epoch == other.epoch


@pytest.mark.parametrize(
    ("family", "stop_after"),
    [
        ("cnn", 1),
        ("cnn-article", 1),
        ("rnn", 1),
        # Two folds of two epochs each, then the rows of both: in the first, between, in the last.
        ("attention", 1),
        ("attention", 4),
        ("attention", 5),
    ],
)
def test_a_stopped_run_goes_on_to_the_very_same_network(
    roots: dict[str, Path], tmp_path: Path, family: str, stop_after: int
) -> None:
    """As if it had never stopped, with dropout, variations, averages, validation and folds."""
    task = task_of(roots, family, "train.epochs=2")
    whole = learn(task, tmp_path / "whole", Heard())
    with pytest.raises(KeyboardInterrupt):
        learn(task, tmp_path / "stopped", Heard(stop_after))
    heard = Heard()
    resumed = learn(task, tmp_path / "stopped", heard)
    assert heard.epochs == (6 if family == "attention" else 2) - stop_after
    assert_same(resumed, whole)


def test_the_seed_decides(roots: dict[str, Path], tmp_path: Path) -> None:
    """The same seed gives the same network, another one another."""
    networks = [
        learn(task_of(roots, "rnn", f"seed={seed}"), tmp_path / place, Heard()).network
        for place, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, again, other = (network.state_dict()["head.weight"] for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_validation_rows_are_held_back_as_the_recipe_says(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    """Their figures are in the history; without them there are none."""
    with_it = learn(task_of(roots, "cnn"), tmp_path / "a", Heard())
    changes = ["train.validation=0", "train.patience=0"]
    without = learn(task_of(roots, "cnn", *changes), tmp_path / "b", Heard())
    assert "validation_accuracy" in with_it.history[0]
    assert "validation_accuracy" not in without.history[0]


def test_calibration_moves_the_logits_of_the_network_trained_on_all_rows(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    """Each fold is told; the weights are those that would be learnt without it."""
    heard = Heard()
    moved = learn(task_of(roots, "attention"), tmp_path / "a", heard)
    plain = learn(task_of(roots, "attention", "train.calibration=0"), tmp_path / "b", Heard())
    assert heard.notes == ["fold 1/2", "fold 2/2"]
    assert isinstance(moved.network, Shifted)
    assert_same(Learnt(moved.network.network, moved.history, moved.epoch, 0), plain)
    assert moved.seconds > sum(epoch["seconds"] for epoch in moved.history)


def test_biases_fit_the_answers_to_rows_that_were_held_out(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    """Each fold is answered by a network that has seen the others and not this one."""
    # Fast enough that it matters which rows were seen.
    task = task_of(roots, "attention", "optim.lr=0.1", "train.epochs=4")
    train = task.dataset.train
    numbers = fold_numbers(train, 2, 0)
    answers, labels = [], []
    for fold in range(2):
        seen = task.problem(train.take(np.flatnonzero(numbers != fold)), None)
        held = task.split(train.take(np.flatnonzero(numbers == fold)))
        network = fit(task.build, seen, task.plan(0)).network
        with torch.inference_mode():
            answers.append(network(*held.features.batch(np.arange(len(held.features))))[0])
        labels.append(held.labels)
    network = learn(task, tmp_path, Heard()).network
    assert isinstance(network, Shifted)
    wanted = balanced_bias(torch.cat(answers), torch.cat(labels))
    torch.testing.assert_close(network.bias, wanted, atol=1e-6, rtol=0)
    assert network.bias[0] == 0
    assert abs(network.bias[1]) > 0.01


@pytest.mark.parametrize(("family", "stages"), [("rnn", 1), ("attention", 3)])
def test_progress_is_of_the_whole(
    roots: dict[str, Path], tmp_path: Path, family: str, stages: int
) -> None:
    """Folds and the last training are alike parts of it."""
    heard = Heard()
    learn(task_of(roots, family), tmp_path, heard)
    assert heard.shares == sorted(heard.shares)
    assert heard.shares[-1] == pytest.approx(1)
    thirds = np.histogram(heard.shares, bins=stages, range=(0, 1 + 1e-9))[0]
    assert thirds.min() > 0


def test_a_stage_passes_on_what_it_hears() -> None:
    """Its share becomes one of the whole; texts and epochs stay as they are."""
    heard = Heard()
    stage = Stage(heard, 1, 4)
    stage.batch(0.5)
    stage.epoch(1, {})
    stage.note("something")
    assert (heard.shares, heard.epochs, heard.notes) == ([0.375], 1, ["something"])


def test_more_folds_than_rows_are_refused(roots: dict[str, Path], tmp_path: Path) -> None:
    """Before anything is trained."""
    task = task_of(roots, "rnn", "data.limit=4", "train.calibration=9")
    with pytest.raises(ValueError, match=r"9 folds: .* at most that"):
        learn(task, tmp_path, Heard())
    assert list(tmp_path.iterdir()) == []
