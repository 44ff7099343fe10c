"""What `training.models.rnn` and its cells promise, in torch and as an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from training.models.cells import GatedCell, TanhCell
from training.models.rnn import Cell, Pooling, RnnClassifier, RnnConfig

CELLS: tuple[Cell, ...] = ("tanh", "gated", "lstm", "gru")
POOLINGS: tuple[Pooling, ...] = ("last", "mean", "max", "mean-max", "mean-std-max")
CHANNELS = 4
LONGEST = 29


def network(cell: Cell, **changes: object) -> RnnClassifier:
    """Return a small network in evaluation mode."""
    torch.manual_seed(3)
    config = RnnConfig(CHANNELS, 5, cell, hidden=6, **changes)  # type: ignore[arg-type]  # of many types
    return RnnClassifier(config).eval()


def series(batch: int, time: int) -> tuple[Tensor, Tensor]:
    """Return random series whose padding is far from zero; the first row has no padding."""
    generator = torch.Generator().manual_seed(100 * batch + time)
    values = torch.randn(batch, time, CHANNELS, generator=generator)
    lengths = torch.randint(1, time + 1, (batch,), generator=generator)
    lengths[0] = time
    padding = torch.arange(time) >= lengths.unsqueeze(1)
    return values.masked_fill(padding.unsqueeze(2), 1e3), lengths


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_padded_row_equals_the_row_alone(
    cell: Cell, pooling: Pooling, *, bidirectional: bool
) -> None:
    """Padding, whatever it holds, changes no logit, through two layers."""
    skip = pooling != "last"
    model = network(cell, pooling=pooling, bidirectional=bidirectional, layers=2, skip=skip)
    values, lengths = series(6, 9)
    with torch.inference_mode():
        (logits,) = model(values, lengths)
        for row, length in enumerate(lengths.tolist()):
            (alone,) = model(values[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(logits[row], alone[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_the_backward_direction_reads_what_comes_later(cell: Cell) -> None:
    """A change of the last step reaches the first state only in a bidirectional layer."""
    values, lengths = torch.randn(1, 5, CHANNELS), torch.tensor([5])
    changed = values.clone()
    changed[0, 4] += 1
    for bidirectional in (False, True):
        layer = network(cell, bidirectional=bidirectional).layers[0]
        with torch.inference_mode():
            first, other = layer(values, lengths)[0, 0], layer(changed, lengths)[0, 0]
        assert torch.equal(first, other) is not bidirectional


def test_the_tanh_cell_is_the_formula() -> None:
    """With pooling "last" the logits are W_ho h_T + b_o of h_t = tanh(W_hh h + W_xh x + b_h)."""
    model = network("tanh", pooling="last", bidirectional=False)
    cell = model.layers[0].forward_cell
    assert isinstance(cell, TanhCell)
    x = torch.randn(4, CHANNELS)
    with torch.inference_mode():
        h = torch.zeros(6)
        for step in x:
            h = torch.tanh(cell.h.weight @ h + cell.x.weight @ step + cell.x.bias)
        (logits,) = model(x.unsqueeze(0), torch.tensor([4]))
        torch.testing.assert_close(logits[0], model.head.weight @ h + model.head.bias)


def test_the_gated_cell_is_the_formula_on_joined_vectors() -> None:
    """Each gate is a W on [h_{t-1}, x_t] plus b, and the memory mixes old and new."""
    cell = GatedCell(CHANNELS, 6)
    joined = torch.cat((cell.h.weight, cell.x.weight), 1)
    w_c, w_i, w_f, w_o = joined.chunk(4)
    b_c, b_i, b_f, b_o = cell.x.bias.chunk(4)
    h, c, x = torch.randn(3, 6)[0], torch.randn(6), torch.randn(CHANNELS)
    with torch.inference_mode():
        both = torch.cat((h, x))
        memory = torch.sigmoid(w_f @ both + b_f) * c
        memory += torch.sigmoid(w_i @ both + b_i) * torch.tanh(w_c @ both + b_c)
        state = torch.sigmoid(w_o @ both + b_o) * torch.tanh(memory)
        got = cell.step((h.unsqueeze(0), c.unsqueeze(0)), cell.inputs(x.unsqueeze(0)))
    torch.testing.assert_close(got[0][0], state)
    torch.testing.assert_close(got[1][0], memory)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_what_its_name_says(pooling: Pooling) -> None:
    """The head sees the last state, or the mean, spread and largest of true steps, as named."""
    model = network("gru", pooling=pooling, bidirectional=False)
    values, lengths = series(1, 7)
    with torch.inference_mode():
        states = model.layers[0](values, lengths)[0]
        pooled = {
            "last": states[-1],
            "mean": states.mean(0),
            "max": states.amax(0),
            "mean-max": torch.cat((states.mean(0), states.amax(0))),
            "mean-std-max": torch.cat((states.mean(0), spread(states), states.amax(0))),
        }[pooling]
        torch.testing.assert_close(model(values, lengths)[0][0], model.head(pooled))


def spread(states: Tensor) -> Tensor:
    """Return the standard deviation over the steps, kept off zero."""
    return (states.var(0, unbiased=False) + 1e-4).sqrt()


def test_skip_pools_the_series_beside_the_states() -> None:
    """The head sees the same figures of the series' own channels."""
    model = network("gru", pooling="mean", skip=True, bidirectional=False)
    values, lengths = series(1, 7)
    with torch.inference_mode():
        both = torch.cat((model.layers[0](values, lengths)[0].mean(0), values[0].mean(0)))
        torch.testing.assert_close(model(values, lengths)[0][0], model.head(both))


def test_a_series_of_one_step_has_a_gradient() -> None:
    """A spread of zero does not make the gradient infinite."""
    model = network("gru", pooling="mean-std-max", skip=True).train()
    model(*series(2, 1))[0].square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("cell", CELLS)
def test_training_reaches_every_weight(cell: Cell) -> None:
    """One step's gradient is not zero for any parameter of two bidirectional layers."""
    model = network(cell, layers=2).train()
    model(*series(6, 9))[0].square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cell": "lstn"}, "cell 'lstn': must be tanh, gated, lstm or gru"),
        ({"pooling": "sum"}, "pooling 'sum'"),
        ({"pooling": "last", "skip": True}, "skip needs a pooling over all steps"),
        ({"hidden": 0}, "hidden 0"),
        ({"layers": 0}, "layers 0"),
        ({"dropout": -0.1}, r"dropout -0\.1"),
    ],
)
def test_values_that_cannot_be_built_are_refused(changes: dict[str, object], text: str) -> None:
    """The error names the field and the value."""
    with pytest.raises(ValueError, match=text):
        RnnConfig(CHANNELS, 5, **changes)  # type: ignore[arg-type]  # wrong on purpose


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep the exporter's own notices, which are not about the model, out of the test."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def exported(model: nn.Module) -> ort.InferenceSession:
    """Return the network as a session, both axes dynamic."""
    values, lengths = series(3, 11)
    program = torch.onnx.export(
        model,
        (values, lengths),
        dynamo=True,
        opset_version=20,
        dynamic_shapes=({0: "batch", 1: "time"}, {0: "batch"}),
        input_names=["values", "lengths"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None
    return ort.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("cell", "pooling", "bidirectional"),
    [
        ("tanh", "last", True),
        ("gated", "mean-max", False),
        ("lstm", "last", True),
        ("gru", "mean-std-max", True),
    ],
)
def test_the_onnx_graph_equals_the_network(
    cell: Cell, pooling: Pooling, *, bidirectional: bool
) -> None:
    """ONNX Runtime agrees at every batch size and length, and its rows are independent too.

    However many networks the process has exported before: both axes stay variable.
    """
    model = network(cell, pooling=pooling, bidirectional=bidirectional, skip=pooling != "last")
    session = exported(model)
    assert session.get_inputs()[0].shape == ["batch", "time", CHANNELS]
    assert session.get_outputs()[0].shape == ["batch", 5]
    for batch in (1, 2, 7, 64):
        for time in (1, 7, LONGEST, 133):
            values, lengths = series(batch, time)
            with torch.inference_mode():
                (wanted,) = model(values, lengths)
            (got,) = session.run(None, {"values": values.numpy(), "lengths": lengths.numpy()})
            np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5, rtol=0)
    values, lengths = series(7, LONGEST)
    (together,) = session.run(None, {"values": values.numpy(), "lengths": lengths.numpy()})
    for row, length in enumerate(lengths.tolist()):
        alone = {
            "values": values[row : row + 1, :length].numpy(),
            "lengths": lengths[row : row + 1].numpy(),
        }
        np.testing.assert_allclose(session.run(None, alone)[0][0], together[row], atol=1e-5, rtol=0)
