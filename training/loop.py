"""The training loop, from the first batch to the weights that are kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from training.checkpoint import (
    CheckpointError,
    Randomness,
    read_checkpoint,
    restore_optimizer,
    seeded,
    write_checkpoint,
)
from training.features import Features, Inputs, in_order, shuffled
from training.losses import Loss
from training.progress import Listener, Silent
from training.recipe import TrainConfig
from training.schedule import OptimConfig, lr_at, make_optimizer

Augment = Callable[[Inputs, Tensor], tuple[Inputs, Tensor]]
Weights = dict[str, Tensor]
History = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Split:
    """Examples as features, and the class index of each."""

    features: Features
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be learned, and how a batch is varied and judged."""

    train: Split
    validation: Split | None
    loss: Loss
    augment: Augment


@dataclass(frozen=True, slots=True)
class Plan:
    """How to learn it: the recipe's sections that the loop reads, the seed and the device."""

    train: TrainConfig
    optim: OptimConfig
    seed: int
    device: torch.device


@dataclass(frozen=True, slots=True)
class Fitted:
    """The end of a training: the network with the weights to keep, and how it came there."""

    network: nn.Module
    history: History
    epoch: int

    @property
    def seconds(self) -> float:
        """The time that the epochs took, over all sittings."""
        return sum(figures["seconds"] for figures in self.history)


@dataclass(slots=True)
class State:
    """All that changes while training; what a checkpoint holds."""

    network: nn.Module
    average: Weights
    optimizer: Optimizer
    randomness: Randomness
    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best: Weights = field(default_factory=dict)
    history: History = field(default_factory=list)


def fit(
    build: Callable[[], nn.Module],
    problem: Problem,
    plan: Plan,
    *,
    checkpoint: Path | None = None,
    listener: Listener | None = None,
) -> Fitted:
    """Train a network and return it with its best or, without validation, its last weights.

    ``build`` makes the network after the generators are seeded.  With ``checkpoint`` every epoch
    ends with one, and a training that finds one there continues it, to the same weights as if it
    had never stopped.
    """
    listener = listener or Silent()
    state = begin(build, plan)
    if checkpoint is not None and checkpoint.exists():
        resume(state, checkpoint)
    while not ended(state, plan.train):
        begun = time.perf_counter()
        figures = train_epoch(state, problem, plan, listener)
        if problem.validation is not None:
            with kept_weights(state):
                found = evaluate(state.network, problem.validation, plan)
            figures |= {f"validation_{name}": value for name, value in found.items()}
        figures["seconds"] = time.perf_counter() - begun
        close_epoch(state, figures)
        if checkpoint is not None:
            write_checkpoint(checkpoint, snapshot(state))
        # Told last: who stops the run at what it shows loses nothing of it.
        listener.epoch(state.epoch, figures)
    state.network.load_state_dict(state.best)
    return Fitted(state.network.cpu().eval(), state.history, state.best_epoch)


def begin(build: Callable[[], nn.Module], plan: Plan) -> State:
    """Seed the generators, make the network and its optimiser."""
    randomness = seeded(plan.seed)
    network = build().to(plan.device)
    optimizer = make_optimizer(network, plan.optim)
    average = _copy(network.state_dict()) if plan.train.average else {}
    return State(network, average, optimizer, randomness)


def ended(state: State, train: TrainConfig) -> bool:
    """Whether all epochs are done, or validation has not improved for ``patience`` epochs."""
    waited = state.epoch - state.best_epoch
    return state.epoch >= train.epochs or (train.patience > 0 and waited >= train.patience)


def train_epoch(state: State, problem: Problem, plan: Plan, listener: Listener) -> dict[str, float]:
    """Take one step for each batch of the shuffled train split; return the mean loss and accuracy.

    Sums stay on the device until the end: reading one would wait for all work queued there.
    """
    rows = len(problem.train.features)
    batches = list(shuffled(rows, plan.train.batch, state.randomness.numpy))
    steps = plan.train.epochs * len(batches)
    sums = torch.zeros(2, device=plan.device)
    state.network.train()
    for batch in batches:
        labels = problem.train.labels[batch].to(plan.device)
        inputs = _moved(problem.train.features.batch(batch), plan.device)
        inputs, target = problem.augment(inputs, labels)
        for group in state.optimizer.param_groups:
            group["lr"] = lr_at(state.step, steps, plan.optim)
        logits = state.network(*inputs)[0]
        loss = problem.loss(logits, target)
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own stubs leave it open
        if plan.optim.clip:
            nn.utils.clip_grad_norm_(state.network.parameters(), plan.optim.clip)
        state.optimizer.step()
        state.step += 1
        _follow(state, plan.train)
        with torch.no_grad():
            right = (logits.argmax(-1) == labels).sum()
            sums += torch.stack((loss * len(batch), right))
        listener.batch(state.step / steps)
    loss_sum, right_sum = sums.tolist()
    return {"train_loss": loss_sum / rows, "train_accuracy": right_sum / rows}


@torch.inference_mode()
def evaluate(network: nn.Module, split: Split, plan: Plan) -> dict[str, float]:
    """Return the mean loss, without a recipe's extras, and the accuracy on a split."""
    sums = torch.zeros(2, device=plan.device)
    network.eval()
    for batch in in_order(len(split.features), 4 * plan.train.batch):
        labels = split.labels[batch].to(plan.device)
        logits = network(*_moved(split.features.batch(batch), plan.device))[0]
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack((loss, (logits.argmax(-1) == labels).sum()))
    loss_sum, right_sum = sums.tolist()
    return {"loss": loss_sum / len(split.features), "accuracy": right_sum / len(split.features)}


def close_epoch(state: State, figures: Mapping[str, float]) -> None:
    """Count the epoch and keep its weights if validation says so; without validation, always."""
    state.epoch += 1
    state.history.append(dict(figures))
    for name, value in figures.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value} in epoch {state.epoch}: lower optim.lr")
    if "validation_loss" in figures and state.best_epoch:
        best = state.history[state.best_epoch - 1]
        # The loss tells apart epochs of equal accuracy: a small validation split has many.
        if _rank(figures) <= _rank(best):
            return
    state.best_epoch = state.epoch
    state.best = _copy(state.average or state.network.state_dict())


def _rank(figures: Mapping[str, float]) -> tuple[float, float]:
    return figures["validation_accuracy"], -figures["validation_loss"]


@contextmanager
def kept_weights(state: State) -> Iterator[None]:
    """Give the network its averaged weights, if there are any, for the length of a block."""
    if not state.average:
        yield
        return
    own = _copy(state.network.state_dict())
    state.network.load_state_dict(state.average)
    try:
        yield
    finally:
        state.network.load_state_dict(own)


def _follow(state: State, train: TrainConfig) -> None:
    """Move the averaged weights towards the network's; the first steps count fully."""
    if not state.average:
        return
    decay = min(train.average, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for name, value in state.network.state_dict().items():
            if value.is_floating_point():
                state.average[name].lerp_(value, 1 - decay)
            else:
                state.average[name].copy_(value)


def snapshot(state: State) -> dict[str, Any]:
    """Return everything that the rest of the training depends on."""
    return {
        "network": state.network.state_dict(),
        "average": state.average,
        "optimizer": state.optimizer.state_dict(),
        "randomness": state.randomness.state(),
        "epoch": state.epoch,
        "step": state.step,
        "best_epoch": state.best_epoch,
        "best": state.best,
        "history": state.history,
    }


def resume(state: State, checkpoint: Path) -> None:
    """Continue where a checkpoint ends; raise CheckpointError if it is of another network."""
    saved = read_checkpoint(checkpoint)
    try:
        restore(state, saved)
    # What torch raises for names, shapes and groups that do not fit, and dicts for what lacks.
    except (RuntimeError, ValueError, LookupError) as error:
        raise CheckpointError(f"{checkpoint}: belongs to another run: {error}") from error


def restore(state: State, saved: Mapping[str, Any]) -> None:
    """Continue where `snapshot` was taken."""
    device = next(iter(state.network.state_dict().values())).device
    state.network.load_state_dict(saved["network"])
    restore_optimizer(state.optimizer, saved["optimizer"])
    state.average = {name: value.to(device) for name, value in saved["average"].items()}
    state.best = {name: value.to(device) for name, value in saved["best"].items()}
    state.epoch, state.step = saved["epoch"], saved["step"]
    state.best_epoch, state.history = saved["best_epoch"], saved["history"]
    state.randomness.restore(saved["randomness"])


def _moved(inputs: Inputs, device: torch.device) -> Inputs:
    return tuple(value.to(device) for value in inputs)


def _copy(weights: Mapping[str, Tensor]) -> Weights:
    return {name: value.detach().clone() for name, value in weights.items()}
