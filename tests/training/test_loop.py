"""What `training.loop` promises, on networks of a few weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.checkpoint import CheckpointError, read_checkpoint, seeded
from training.features import Inputs, Rows
from training.loop import (
    Augment,
    Plan,
    Problem,
    Split,
    State,
    begin,
    close_epoch,
    ended,
    evaluate,
    fit,
    kept_weights,
    train_epoch,
)
from training.losses import Loss, make_loss
from training.progress import Silent
from training.recipe import TrainConfig
from training.schedule import OptimConfig, lr_at

CPU = torch.device("cpu")
PLAIN_LOSS = make_loss(torch.ones(2))


class Points:
    """Points in the plane as features."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, rows: Rows) -> Inputs:
        return (self.values[torch.from_numpy(rows)],)


class Perceptron(nn.Module):
    """Two layers with a norm and a dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers(x), x


class Line(nn.Module):
    """Logits that are one weight times the input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 2))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x * self.weight,)


def points(count: int, seed: int = 0) -> Split:
    """Return points around two centres, which are the classes."""
    labels = torch.arange(count) % 2
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return Split(Points(noise + 3 * labels.unsqueeze(1)), labels)


def as_it_is(inputs: Inputs, labels: Tensor) -> tuple[Inputs, Tensor]:
    """Vary nothing."""
    return inputs, labels


def problem(
    count: int = 21,
    *,
    validation: bool = False,
    loss: Loss = PLAIN_LOSS,
    augment: Augment = as_it_is,
) -> Problem:
    """Return the task of telling the two centres apart."""
    return Problem(points(count), points(10, 1) if validation else None, loss, augment)


def plan(optim: OptimConfig | None = None, *, seed: int = 5, **train: float) -> Plan:
    """Return a plan of three epochs in batches of four, unless changed."""
    config = TrainConfig(**{"epochs": 3, "batch": 4, **train})  # type: ignore[arg-type]  # of many types
    return Plan(config, optim or OptimConfig(lr=0.05), seed, CPU)


@dataclass
class Heard:
    """A listener that remembers, and that stops the run after an epoch, as a person may."""

    stop_after: int = 0
    epochs: list[int] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        self.epochs.append(number)
        if number == self.stop_after:
            raise KeyboardInterrupt

    def batch(self, share: float) -> None:
        self.shares.append(share)

    def note(self, text: str) -> None:
        raise AssertionError(text)


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return the history without what no two runs share."""
    return [{name: v for name, v in one.items() if name != "seconds"} for one in history]


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks are equal to the last bit."""
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def test_a_step_changes_every_weight() -> None:
    """One epoch of one batch."""
    state = begin(Perceptron, plan(batch=64))
    before = {name: p.detach().clone() for name, p in state.network.named_parameters()}
    train_epoch(state, problem(), plan(batch=64), Silent())
    still = [n for n, p in state.network.named_parameters() if torch.equal(p, before[n])]
    # The norm takes a shift of its input away again, so the bias before it moves no answer.
    assert still in ([], ["layers.0.bias"])
    assert state.step == 1


def test_what_can_be_learnt_is_learnt() -> None:
    """The loss falls, the training rows are told apart, and the figures say so."""
    fitted = fit(Perceptron, problem(64), plan(epochs=20))
    first, last = fitted.history[0], fitted.history[-1]
    assert last["train_loss"] < first["train_loss"] / 1.5
    assert last["train_accuracy"] > 0.9
    assert evaluate(fitted.network, points(200, 9), plan())["accuracy"] > 0.9
    assert not fitted.network.training
    assert fitted.epoch == len(fitted.history) == 20
    assert fitted.seconds == sum(one["seconds"] for one in fitted.history) > 0


def test_the_same_seed_gives_the_same_network() -> None:
    """And another seed another one."""
    one, again, other = (fit(Perceptron, problem(), plan(seed=seed)) for seed in (1, 1, 2))
    assert same_weights(one.network, again.network)
    assert not same_weights(one.network, other.network)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_stopped_training_goes_on_as_if_it_had_not(tmp_path: Path, stop_after: int) -> None:
    """Weights and history are the same to the last bit, wherever it was stopped."""
    task = problem(validation=True, augment=lambda i, y: ((i[0] + torch.randn(2),), y))
    config = plan(average=0.9)
    whole = fit(Perceptron, task, config)
    file = tmp_path / "last.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(Perceptron, task, config, checkpoint=file, listener=Heard(stop_after))
    heard = Heard()
    resumed = fit(Perceptron, task, config, checkpoint=file, listener=heard)
    assert heard.epochs == [1, 2, 3][stop_after:]
    assert same_weights(resumed.network, whole.network)
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert resumed.epoch == whole.epoch


def test_an_epoch_that_was_shown_is_on_the_disk(tmp_path: Path) -> None:
    """Who stops a run at what it shows loses nothing of it."""
    file = tmp_path / "last.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(Perceptron, problem(), plan(), checkpoint=file, listener=Heard(1))
    saved = read_checkpoint(file)
    assert saved["epoch"] == len(saved["history"]) == 1


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    """Its checkpoint holds the result."""
    file = tmp_path / "last.safetensors"
    first = fit(Perceptron, problem(), plan(), checkpoint=file)
    heard = Heard()
    again = fit(Perceptron, problem(), plan(), checkpoint=file, listener=heard)
    assert heard == Heard()
    assert same_weights(again.network, first.network)
    assert again.history == first.history


def test_the_checkpoint_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    """A file from another place, or another release, is not trained on."""
    file = tmp_path / "last.safetensors"
    fit(Line, problem(), plan(epochs=1), checkpoint=file)
    with pytest.raises(CheckpointError, match=r"last\.safetensors: belongs to another run: "):
        fit(Perceptron, problem(), plan(), checkpoint=file)


def test_progress_is_told_after_every_batch() -> None:
    """As the share of the whole training, to its end."""
    heard = Heard()
    fit(Line, problem(8), plan(epochs=2), listener=heard)
    assert heard.shares == [0.25, 0.5, 0.75, 1.0]
    assert heard.epochs == [1, 2]


def summed(logits: Tensor, target: Tensor) -> Tensor:
    """Return a loss whose gradient is the same at every step."""
    return logits.mean(0).sum() + 0 * target.sum()


def ones(count: int) -> Split:
    """Return rows that are all alike."""
    return Split(Points(torch.ones(count, 2)), torch.zeros(count, dtype=torch.int64))


@pytest.mark.parametrize(("clip", "length"), [(0.0, 2**0.5), (0.5, 0.5), (9.0, 2**0.5)])
def test_weights_move_by_the_scheduled_rate_times_the_clipped_gradient(
    clip: float, length: float
) -> None:
    """The gradient is (1, 1) at every step, and the rates are those of the whole run."""
    optim = OptimConfig(
        algorithm="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, warmup=0.5, clip=clip
    )
    task = Problem(ones(8), None, summed, as_it_is)
    fitted = fit(Line, task, plan(optim, epochs=2))
    moved = sum(lr_at(step, 4, optim) for step in range(4)) * length
    weight = fitted.network.state_dict()["weight"]
    assert float(weight.norm()) == pytest.approx(moved, rel=1e-4)


def test_the_augmented_target_is_learnt_and_the_label_judged() -> None:
    """Accuracy counts what is true, whatever the loss is told."""

    def swapped(inputs: Inputs, labels: Tensor) -> tuple[Inputs, Tensor]:
        return inputs, 1 - labels

    fitted = fit(Perceptron, problem(64, augment=swapped), plan(epochs=8))
    assert fitted.history[-1]["train_accuracy"] < 0.1


def test_evaluation_is_the_plain_mean_over_rows_of_all_batches() -> None:
    """Without dropout and without what a recipe adds to the loss, in batches of any size."""
    network, split = Perceptron(), points(37)
    found = evaluate(network, split, plan(batch=2))
    with torch.inference_mode():
        logits = network.eval()(split.features.batch(np.arange(37))[0])[0]
    wanted = nn.functional.cross_entropy(logits, split.labels).item()
    right = (logits.argmax(1) == split.labels).float().mean().item()
    assert found == pytest.approx({"loss": wanted, "accuracy": right})


def test_validation_is_measured_every_epoch() -> None:
    """On rows that are not trained on; without them there are no such figures."""
    with_it = fit(Perceptron, problem(validation=True), plan()).history
    without = fit(Perceptron, problem(), plan()).history
    assert set(with_it[0]) - set(without[0]) == {"validation_loss", "validation_accuracy"}


def state_of(network: nn.Module, *, average: bool = False) -> State:
    """Return the state at the beginning of a training."""
    copied = {name: value + 1 for name, value in network.state_dict().items()} if average else {}
    return State(network, copied, torch.optim.SGD(network.parameters()), seeded(0))


def close(state: State, accuracy: float, loss: float, weight: float) -> None:
    """End an epoch with this weight and these figures on the validation rows."""
    state.network.load_state_dict({"weight": torch.full((1, 2), weight)})
    figures = {"train_loss": 1.0, "train_accuracy": 0.5}
    close_epoch(state, {**figures, "validation_accuracy": accuracy, "validation_loss": loss})


def test_the_epoch_with_the_best_validation_is_kept() -> None:
    """More accuracy is better; of equal accuracies the lower loss; of equals the earlier."""
    state = state_of(Line())
    kept = []
    epochs = [(0.5, 0.6), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.6, 0.1)]
    for number, (accuracy, loss) in enumerate(epochs):
        close(state, accuracy, loss, float(number))
        kept.append((state.best_epoch, state.best["weight"][0, 0].item()))
    assert kept == [(1, 0), (2, 1), (3, 2), (3, 2), (3, 2)]


def test_without_validation_the_last_epoch_is_kept() -> None:
    """There is nothing else to judge by."""
    state = state_of(Line())
    for _ in range(3):
        close_epoch(state, {"train_loss": 1.0, "train_accuracy": 0.5})
    assert state.best_epoch == state.epoch == 3


@pytest.mark.parametrize(
    ("epoch", "best", "patience", "over"),
    [(9, 1, 0, False), (10, 10, 0, True), (5, 3, 2, True), (5, 4, 2, False), (0, 0, 2, False)],
)
def test_a_training_ends_after_its_epochs_or_its_patience(
    epoch: int, best: int, patience: int, *, over: bool
) -> None:
    """So many epochs without a better one are enough."""
    state = state_of(Line())
    state.epoch, state.best_epoch = epoch, best
    assert ended(state, TrainConfig(epochs=10, patience=patience, validation=0.1)) is over


def test_a_training_without_progress_stops_early() -> None:
    """Validation that cannot get better ends it after ``patience`` epochs more."""
    still = OptimConfig(algorithm="sgd", lr=1e-9, momentum=0.0, weight_decay=0.0)
    fitted = fit(Line, problem(validation=True), plan(still, epochs=50, patience=2, validation=0.1))
    assert len(fitted.history) < 50
    assert len(fitted.history) == fitted.epoch + 2


@pytest.mark.parametrize("name", ["train_loss", "validation_loss"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_ends_the_training(name: str, value: float) -> None:
    """With advice: no later epoch would mend it."""
    figures = {"train_loss": 1.0, "validation_loss": 1.0, "validation_accuracy": 1.0, name: value}
    with pytest.raises(FloatingPointError, match=f"{name} is {value} in epoch 1: lower optim.lr"):
        close_epoch(state_of(Line()), figures)


def test_averaged_weights_are_what_is_kept() -> None:
    """They follow the network's own at the pace of the recipe, the first steps faster."""
    config = plan(average=0.5, epochs=1, batch=64)
    state = begin(Perceptron, config)
    begun = {name: value.clone() for name, value in state.average.items()}
    train_epoch(state, problem(), config, Silent())
    decay = 2 / 11
    for name, value in state.network.state_dict().items():
        wanted = value
        if value.is_floating_point():
            wanted = decay * begun[name] + (1 - decay) * value
        torch.testing.assert_close(state.average[name], wanted)
    close_epoch(state, {"train_loss": 1.0})
    assert torch.equal(state.best["layers.4.weight"], state.average["layers.4.weight"])


@pytest.mark.parametrize("failure", [None, KeyboardInterrupt])
def test_a_network_has_its_averaged_weights_for_a_while(
    failure: type[BaseException] | None,
) -> None:
    """And gets its own back, whatever happens."""
    state = state_of(Line(), average=True)

    def look() -> None:
        with kept_weights(state):
            assert torch.equal(state.network.state_dict()["weight"], torch.ones(1, 2))
            if failure:
                raise failure

    check_raises(look, failure)
    assert torch.equal(state.network.state_dict()["weight"], torch.zeros(1, 2))


def check_raises(call: Callable[[], None], failure: type[BaseException] | None) -> None:
    """Call, and expect the failure if there is to be one."""
    if failure is None:
        call()
    else:
        with pytest.raises(failure):
            call()


def test_without_an_average_a_network_keeps_its_own_weights() -> None:
    """There are no others."""
    state = state_of(Line())
    with kept_weights(state):
        assert torch.equal(state.network.state_dict()["weight"], torch.zeros(1, 2))
