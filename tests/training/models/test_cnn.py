"""What `training.models.cnn` promises, in torch and as an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from training.models.cnn import (
    ArticleCnn,
    ArticleCnnConfig,
    CamExplanation,
    GapCnn,
    GapCnnConfig,
    Shape,
)

SHAPES: tuple[Shape, ...] = ((1, 28, 28), (3, 32, 32))


def gap(shape: Shape = (1, 28, 28), *, dropout: float = 0.0) -> GapCnn:
    """Return a small network whose batch norms have seen something other than their start."""
    torch.manual_seed(3)
    network = GapCnn(GapCnnConfig(shape, 10, width=4, dropout=dropout)).train()
    network(pictures(8, shape))
    return network.eval()


def pictures(batch: int, shape: Shape) -> Tensor:
    """Return random pictures."""
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))


def sizes(network: nn.Module) -> list[list[int]]:
    """Return the weights' shapes in order, without biases."""
    return [list(p.shape) for p in network.parameters() if p.ndim > 1]


@pytest.mark.parametrize(("shape", "flat"), [((1, 28, 28), 576), ((3, 32, 32), 1024)])
def test_the_article_network_has_the_article_layers(shape: Shape, flat: int) -> None:
    """Three valid convolutions and two dense layers, sized by the pictures."""
    network = ArticleCnn(ArticleCnnConfig(shape, 10))
    assert sizes(network) == [
        [32, shape[0], 3, 3],
        [64, 32, 3, 3],
        [64, 64, 3, 3],
        [64, flat],
        [10, 64],
    ]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in network.modules()) == 2
    assert sum(isinstance(layer, nn.ReLU) for layer in network.modules()) == 4
    assert network(pictures(2, shape))[0].shape == (2, 10)


@pytest.mark.parametrize("shape", [(1, 18, 18), (1, 18, 31), (2, 45, 22)])
def test_the_article_network_takes_other_sizes(shape: Shape) -> None:
    """Down to the smallest picture, also one that is not square, the layers fit together."""
    assert ArticleCnn(ArticleCnnConfig(shape, 3))(pictures(2, shape))[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 17, 28), "pictures of 17x28 are too small: this network needs 18x18"),
        ((0, 28, 28), "1 channel"),
    ],
)
def test_pictures_the_article_network_cannot_take_are_refused(shape: Shape, text: str) -> None:
    """The error names the size seen and the smallest that would do."""
    with pytest.raises(ValueError, match=text):
        ArticleCnnConfig(shape, 10)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shape": (1, 3, 28)}, "pictures of 3x28 are too small"),
        ({"classes": 1}, "classes 1"),
        ({"width": 0}, "width 0"),
        ({"dropout": 1.0}, r"dropout 1\.0"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(changes: dict[str, object], text: str) -> None:
    """The error names the field and the value."""
    values = {"shape": (1, 28, 28), "classes": 10} | changes
    with pytest.raises(ValueError, match=text):
        GapCnnConfig(**values)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("shape", [*SHAPES, (1, 4, 4), (2, 31, 17)])
def test_the_mean_of_a_map_plus_the_bias_is_the_logit(shape: Shape) -> None:
    """The class-activation maps explain the logits completely."""
    network, image = gap(shape), pictures(3, shape)
    with torch.inference_mode():
        (logits,) = network(image)
        maps = network.cam(image)
    assert maps.shape == (3, 10, shape[1] // 4, shape[2] // 4)
    torch.testing.assert_close(maps.mean((2, 3)) + network.head.bias, logits, atol=1e-5, rtol=0)


def test_a_row_does_not_depend_on_its_batch() -> None:
    """In evaluation batch norm uses what it has learnt, not the neighbours."""
    network, image = gap(), pictures(5, (1, 28, 28))
    with torch.inference_mode():
        torch.testing.assert_close(network(image)[0][2:3], network(image[2:3])[0])


def test_dropout_acts_only_in_training() -> None:
    """Two passes differ in training and agree in evaluation."""
    network, image = gap(dropout=0.5), pictures(4, (1, 28, 28))
    assert torch.equal(network(image)[0], network(image)[0])
    network.train()
    assert not torch.equal(network(image)[0], network(image)[0])


def test_training_reaches_every_weight() -> None:
    """One step's gradient is finite and not zero for every parameter."""
    for network in (gap().train(), ArticleCnn(ArticleCnnConfig((1, 28, 28), 10))):
        network(pictures(8, (1, 28, 28)))[0].square().sum().backward()
        idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == []


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep the exporter's own notices, which are not about the model, out of the test."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kind", ["gap", "cam", "article"])
def test_the_onnx_graph_equals_the_network(kind: str) -> None:
    """The batch stays dynamic, and ONNX Runtime agrees at every batch size."""
    shape = (3, 32, 32)
    network: nn.Module = gap(shape)
    if kind == "cam":
        network = CamExplanation(gap(shape)).eval()
    if kind == "article":
        network = ArticleCnn(ArticleCnnConfig(shape, 10)).eval()
    program = torch.onnx.export(
        network,
        (pictures(5, shape),),
        dynamo=True,
        opset_version=20,
        dynamic_shapes=({0: "batch"},),
        input_names=["image"],
        output_names=["answer"],
        verbose=False,
    )
    assert program is not None
    session = ort.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert session.get_outputs()[0].shape[0] == "batch"
    for batch in (1, 2, 7, 64):
        image = pictures(batch, shape)
        with torch.inference_mode():
            (wanted,) = network(image)
        (got,) = session.run(None, {"image": image.numpy()})
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5, rtol=0)
