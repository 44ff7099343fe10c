"""What `training.halve` promises: FP16 inside, the same contract outside."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from training.export import Served, Tupled, open_graph, save_graph
from training.halve import Halved, fits_half
from training.networks import example_inputs
from training.parity import as_graph, measure
from training.task import make_task

from .tiny import tiny_recipe

VARIANTS = [
    ("cnn", ()),
    ("cnn-article", ()),
    ("rnn", ("model.cell=lstm",)),
    ("rnn", ("model.cell=gru", "model.pooling=mean-std-max", "model.skip=true")),
    ("rnn", ("model.cell=gated", "model.pooling=last")),
    ("attention", ()),
    ("attention", ("model.score=additive",)),
]


@pytest.mark.parametrize(("family", "changes"), VARIANTS)
def test_every_family_is_exported_in_half_precision(
    roots: dict[str, Path], tmp_path: Path, family: str, changes: tuple[str, ...]
) -> None:
    """All weights are FP16, what goes in and out is not, and the answers are nearly the same."""
    task = make_task(tiny_recipe(family, roots[family], *changes))
    network = task.build().eval()
    halved = Tupled(Served(Halved(network))).eval()
    file = tmp_path / "fp16.onnx"
    save_graph(halved, example_inputs(task.contract), task.contract, file)
    kinds = {weight.data_type for weight in onnx.load(str(file)).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert onnx.TensorProto.FLOAT not in kinds
    whole = as_graph(Tupled(Served(network)).eval())
    found = measure(whole, open_graph(file), task.contract, tolerance=math.inf)
    assert 0 < found.max_abs < 5e-3
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_a_number_that_half_precision_cannot_hold_is_named() -> None:
    """It would become infinite without a word."""
    last = nn.Linear(1, 1)
    network = nn.Sequential(nn.Linear(1, 1), last)
    assert fits_half(network) == ""
    with torch.no_grad():
        last.weight.fill_(70000.0)
    assert fits_half(network) == "1.weight"
