"""All the trainings that one recipe asks for: those of its folds, then the one that is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.calibration import Shifted, balanced_bias
from training.data import Examples, split
from training.features import in_order
from training.groups import fold_numbers
from training.loop import Fitted, History, Split, fit
from training.progress import Listener
from training.task import Task

LAST = "last.safetensors"


@dataclass(frozen=True, slots=True)
class Learnt:
    """The network to export, the history of its training, and the seconds of all trainings."""

    network: nn.Module
    history: History
    epoch: int
    seconds: float


@dataclass(slots=True)
class Stage:
    """One of several trainings, as a part of the whole that a person sees."""

    listener: Listener
    number: int
    of: int

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Pass the epoch on."""
        self.listener.epoch(number, figures)

    def batch(self, share: float) -> None:
        """Pass on the share of the whole."""
        self.listener.batch((self.number + share) / self.of)

    def note(self, text: str) -> None:
        """Pass the text on."""
        self.listener.note(text)


def learn(task: Task, checkpoints: Path, listener: Listener) -> Learnt:
    """Train what the recipe describes; every epoch leaves a checkpoint in the folder.

    With calibration, networks trained without a fold answer that fold's rows, and these answers
    set the biases of the network that is trained on all rows.
    """
    config, train = task.recipe.train, task.dataset.train
    stages = config.calibration + 1
    seconds, held_out = 0.0, []
    for fold, (inside, outside) in enumerate(_folds(train, config.calibration, task.recipe.seed)):
        listener.note(f"fold {fold + 1}/{config.calibration}")
        checkpoint = checkpoints / f"fold-{fold + 1}.safetensors"
        fitted = _fit(task, inside, checkpoint, Stage(listener, fold, stages))
        seconds += fitted.seconds
        held_out.append(_answers(fitted.network, task.split(outside), config.batch))
    fitted = _fit(task, train, checkpoints / LAST, Stage(listener, stages - 1, stages))
    network = fitted.network
    if held_out:
        logits, labels = (torch.cat(parts) for parts in zip(*held_out, strict=True))
        network = Shifted(network, balanced_bias(logits, labels))
    return Learnt(network, fitted.history, fitted.epoch, seconds + fitted.seconds)


def _fit(task: Task, train: Examples, checkpoint: Path, listener: Listener) -> Fitted:
    recipe, validation = task.recipe, None
    if recipe.train.validation:
        train, validation = split(train, recipe.train.validation, recipe.seed)
    problem = task.problem(train, validation)
    return fit(
        task.build, problem, task.plan(recipe.seed), checkpoint=checkpoint, listener=listener
    )


def _folds(train: Examples, folds: int, seed: int) -> Iterator[tuple[Examples, Examples]]:
    """Yield the rows outside and inside each fold; nothing where there are no folds."""
    numbers = fold_numbers(train, folds, seed) if folds else np.empty(0)
    for fold in range(folds):
        yield (
            train.take(np.flatnonzero(numbers != fold)),
            train.take(np.flatnonzero(numbers == fold)),
        )


@torch.inference_mode()
def _answers(network: nn.Module, held: Split, batch: int) -> tuple[Tensor, Tensor]:
    parts = [network(*held.features.batch(rows))[0] for rows in in_order(len(held.features), batch)]
    return torch.cat(parts), held.labels
