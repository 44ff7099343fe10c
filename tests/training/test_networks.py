"""What `training.networks` promises: from a recipe's model section and a contract to a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from service.contract import Contract, ImagePipeline, InputContract, OutputContract, TensorPipeline
from training.calibration import Shifted
from training.models.attention import AttentionClassifier
from training.models.cnn import ArticleCnn, CamExplanation, GapCnn
from training.models.rnn import RnnClassifier
from training.networks import build_network, example_inputs, explanation, require_family
from training.recipe import ArticleCnnModel, AttentionModel, CnnModel, RnnModel
from training.task import Task, make_task

from .tiny import FAMILIES, tiny_recipe


def task_of(roots: dict[str, Path], family: str, *changes: str) -> Task:
    """Return the task of a tiny recipe of this family."""
    return make_task(tiny_recipe(family, roots[family], *changes))


def test_each_family_is_its_network(roots: dict[str, Path]) -> None:
    """With the classes of the data."""
    networks = {family: task_of(roots, family).build() for family in FAMILIES}
    assert [type(network) for network in networks.values()] == [
        GapCnn,
        ArticleCnn,
        RnnClassifier,
        AttentionClassifier,
    ]


@pytest.mark.parametrize(
    ("family", "changes", "sizes"),
    [
        ("cnn", ["model.width=3", "model.dropout=0.4"], {"width": 3, "dropout": 0.4}),
        (
            "rnn",
            ["model.cell=gated", "model.layers=2", "model.bidirectional=false"],
            {"cell": "gated", "layers": 2, "bidirectional": False, "hidden": 4, "channels": 2},
        ),
        ("rnn", ["model.pooling=last"], {"pooling": "last", "dropout": 0.2}),
        (
            "attention",
            ["model.score=additive", "model.score_width=5", "model.token_dropout=0.1"],
            {"score": "additive", "score_width": 5, "token_dropout": 0.1, "vocabulary": 66},
        ),
    ],
)
def test_a_recipes_sizes_reach_the_network(
    roots: dict[str, Path], family: str, changes: list[str], sizes: dict[str, object]
) -> None:
    """What is written is what is built."""
    network = task_of(roots, family, *changes).build()
    assert isinstance(network, GapCnn | RnnClassifier | AttentionClassifier)
    assert {name: getattr(network.config, name) for name in sizes} == sizes


def bare(*shape: int | str) -> Contract:
    """Return the contract of a model that takes plain tensors of this shape."""
    return Contract(
        task="tensor",
        inputs=[InputContract(name="x", datatype="FP32", shape=list(shape))],
        outputs=[OutputContract(name="y", datatype="FP32", shape=["batch", 2])],
        pipeline=TensorPipeline(),
        batchable=True,
    )


@pytest.mark.parametrize("model", [CnnModel(), ArticleCnnModel(), RnnModel(), AttentionModel()])
def test_no_family_takes_plain_tensors(
    model: CnnModel | ArticleCnnModel | RnnModel | AttentionModel,
) -> None:
    """The error says so, before and while building."""
    message = f"model.family '{model.family}' does not take data of kind 'tensor'; none does"
    with pytest.raises(ValueError, match=message):
        build_network(model, bare("batch", 3))
    with pytest.raises(ValueError, match=message):
        require_family(model, "tensor")


@pytest.mark.parametrize("family", FAMILIES)
def test_examples_are_taken_by_the_network(roots: dict[str, Path], family: str) -> None:
    """A batch of more than one, so that the exporter keeps the axis variable."""
    task = task_of(roots, family)
    inputs = example_inputs(task.contract)
    with torch.inference_mode():
        logits = task.build().eval()(*inputs)[0]
    assert len(logits) == len(inputs[0]) > 1


@pytest.mark.parametrize("sizes", [(1, 28, 28), (3, 5, 7), (3, 3, 3), (1, 7, 5), (3, 11, 5)])
def test_no_variable_axis_has_the_size_of_a_fixed_one(sizes: tuple[int, int, int]) -> None:
    """An exporter could take one for the other."""
    contract = Contract(
        task="classification",
        inputs=[InputContract(name="image", datatype="FP32", shape=["batch", *sizes])],
        outputs=[OutputContract(name="p", datatype="FP32", shape=["batch", 2])],
        pipeline=ImagePipeline(
            height=sizes[1],
            width=sizes[2],
            channels=1 if sizes[0] == 1 else 3,
            mean=[0.5] * sizes[0],
            std=[0.5] * sizes[0],
        ),
        labels=["a", "b"],
        batchable=True,
    )
    (image,) = example_inputs(contract)
    assert tuple(image.shape[1:]) == sizes
    assert image.shape[0] not in {1, *sizes}


def test_the_length_of_an_example_is_no_other_axis_either(roots: dict[str, Path]) -> None:
    """Batch, time and channels of a series all differ."""
    values, lengths = example_inputs(task_of(roots, "rnn").contract)
    assert len({*values.shape}) == 3
    assert int(lengths.max()) == values.shape[1]


def test_only_class_activation_maps_explain(roots: dict[str, Path]) -> None:
    """Also where biases stand around the network; other families have no second graph."""
    network = task_of(roots, "cnn").build().eval()
    for one in (network, Shifted(network, torch.zeros(2))):
        found = explanation(one)
        assert found is not None
        module, names = found
        assert isinstance(module, CamExplanation)
        assert module.network is network
        assert names == ("maps",)
    assert explanation(nn.Linear(1, 1)) is None
    assert explanation(task_of(roots, "attention").build()) is None
