"""A recipe made concrete: its data set, the contract that follows, and how to build and judge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from service.contract import Contract
from training.augment import ImageAugment, SeriesAugment, augment_image, augment_series
from training.contracts import make_contract
from training.data import DataSet, Examples, Kind, load
from training.features import Inputs, make_features
from training.loop import Plan, Problem, Split
from training.losses import class_counts, make_loss
from training.machine import usable_cores
from training.networks import build_network, require_family
from training.recipe import AttentionModel, AugmentConfig, Recipe


@dataclass(frozen=True, slots=True)
class Task:
    """What the loop, the export and the report all start from."""

    recipe: Recipe
    dataset: DataSet
    contract: Contract
    device: torch.device

    def build(self) -> nn.Module:
        """Return an untrained network."""
        return build_network(self.recipe.model, self.contract)

    def plan(self, seed: int) -> Plan:
        """Return how to learn, from this seed."""
        return Plan(self.recipe.train, self.recipe.optim, seed, self.device)

    def problem(self, train: Examples, validation: Examples | None) -> Problem:
        """Return what is to be learned from these rows."""
        config = self.recipe.train
        labels = torch.from_numpy(train.labels)
        loss = make_loss(
            class_counts(labels, len(self.dataset.classes)),
            balance=config.balance,
            smoothing=config.smoothing,
            prior=config.prior,
        )
        held = None if validation is None else self.split(validation)
        return Problem(self.split(train), held, loss, self.augment)

    def split(self, examples: Examples) -> Split:
        """Return rows as the network's inputs, and their labels."""
        features = make_features(self.contract, examples.inputs)
        return Split(features, torch.from_numpy(examples.labels))

    def augment(self, inputs: Inputs, labels: Tensor) -> tuple[Inputs, Tensor]:
        """Return a batch varied as the recipe says; its labels stay."""
        config = self.recipe.augment
        if self.dataset.kind == "image":
            return (augment_image(inputs[0], config.image),), labels
        if self.dataset.kind == "sequence":
            values, lengths = inputs
            return augment_series(values, lengths, config.series), labels
        return inputs, labels


def make_task(recipe: Recipe) -> Task:
    """Load the recipe's data and settle everything that follows from it.

    Raises DataError for data that cannot be used, and ValueError for a network that does not take
    this kind of data.
    """
    dataset = load(recipe.data)
    require_family(recipe.model, dataset.kind)
    _refuse_foreign_augment(recipe.augment, dataset.kind)
    model = recipe.model
    if isinstance(model, AttentionModel):
        contract = make_contract(dataset, model.tokens, heads=model.heads)
    else:
        contract = make_contract(dataset)
    return Task(recipe, dataset, contract, choose_device(recipe.train.device))


def _refuse_foreign_augment(config: AugmentConfig, kind: Kind) -> None:
    if kind != "image" and config.image != ImageAugment():
        raise ValueError(f"augment.image varies pictures, the data are of kind '{kind}'")
    if kind != "sequence" and config.series != SeriesAugment():
        raise ValueError(f"augment.series varies series, the data are of kind '{kind}'")


def choose_device(wanted: str) -> torch.device:
    """Return the device; "auto" takes a GPU where there is one."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("train.device is 'cuda': this machine or this torch has none")
    return torch.device(wanted)


def use_threads(wanted: int) -> None:
    """Let torch use so many threads, or every core for 0."""
    torch.set_num_threads(wanted or usable_cores())
