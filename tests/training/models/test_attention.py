"""What `training.models.attention` promises, in torch and as an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import onnxruntime as ort
import pytest
import torch

from training.models.attention import AttentionClassifier, AttentionConfig, ConcatScore, Score

SCORES: tuple[Score, ...] = ("concat", "additive", "dot")
VOCABULARY = 50
LONGEST = 33


def network(score: Score, **changes: float) -> AttentionClassifier:
    """Return a small network in evaluation mode, with scores large enough to differ."""
    torch.manual_seed(3)
    sizes = {"width": 12, "heads": 3, "score_width": 5, "embedding_std": 1.0} | changes
    config = AttentionConfig(vocabulary=VOCABULARY, classes=2, score=score, **sizes)  # type: ignore[arg-type]  # the tests change whole and real numbers alike
    return AttentionClassifier(config).eval()


def padded_ids(batch: int, time: int) -> torch.Tensor:
    """Return ids of which each row ends earlier than the row before, the first at ``time``."""
    ids = torch.randint(1, VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(1))
    for row in range(batch):
        ids[row, max(1, time - row) :] = 0
    return ids


@pytest.mark.parametrize("score", SCORES)
def test_a_padded_row_equals_the_row_alone(score: Score) -> None:
    """Padding changes neither the logits nor the weights among real tokens."""
    model, ids = network(score), padded_ids(6, 9)
    with torch.inference_mode():
        logits, weights = model(ids)
        for row in range(6):
            length = 9 - row
            alone_logits, alone_weights = model(ids[row : row + 1, :length])
            torch.testing.assert_close(logits[row], alone_logits[0], atol=1e-5, rtol=0)
            kept = weights[row, :, :length, :length]
            torch.testing.assert_close(kept, alone_weights[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("score", SCORES)
def test_weights_sum_to_one_and_are_zero_at_padding(score: Score) -> None:
    """Each real query spreads a weight of 1 over real keys; padding has exactly none."""
    ids = padded_ids(4, 7)
    with torch.inference_mode():
        _, weights = network(score)(ids)
    pad = ids.eq(0)
    assert weights.shape == (4, 3, 7, 7)
    assert (weights.transpose(1, 3)[pad] == 0).all()
    assert (weights.transpose(1, 2)[pad] == 0).all()
    sums = weights.sum(dim=3).transpose(1, 2)[~pad]
    torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize("score", SCORES)
def test_only_the_linear_score_weighs_alike_for_all_queries(score: Score) -> None:
    """With the linear score the softmax cancels the query; the other two depend on it."""
    with torch.inference_mode():
        _, weights = network(score)(padded_ids(1, 8))
    spread = float((weights - weights[:, :, :1]).abs().max())
    assert (spread < 1e-6) == (score == "concat")


def test_the_concat_score_is_the_formula_on_joined_states() -> None:
    """The split form equals W_s [h_i ; h_j] + b_s, computed pair by pair."""
    score = network("concat").attention.score
    assert isinstance(score, ConcatScore)
    states = torch.randn(1, 4, 12)
    joined_weight = torch.cat((score.query.weight, score.key.weight), dim=1)
    with torch.inference_mode():
        scores = score(states)
        for i in range(4):
            for j in range(4):
                pair = torch.cat((states[0, i], states[0, j]))
                expected = joined_weight @ pair + score.query.bias
                torch.testing.assert_close(scores[0, :, i, j], expected)


def test_a_row_of_padding_alone_is_finite() -> None:
    """An empty row gives finite logits and no weights."""
    with torch.inference_mode():
        logits, weights = network("dot")(torch.zeros(2, 5, dtype=torch.int64))
    assert torch.isfinite(logits).all()
    assert not weights.any()


@pytest.mark.parametrize("score", SCORES)
def test_a_larger_score_gain_makes_the_weights_less_even(score: Score) -> None:
    """The gain decides how far the first weights are from a plain mean."""
    ids = padded_ids(1, 12)
    with torch.inference_mode():
        even = network(score, embedding_std=0.1)(ids)[1].max()
        sharp = network(score, embedding_std=0.1, score_gain=15.0)(ids)[1].max()
    assert sharp > 1.2 * even


def test_every_parameter_gets_a_gradient() -> None:
    """Every part, the attention layer among them, takes part in what is learnt."""
    model = network("dot").train()
    logits, _ = model(padded_ids(8, 9))
    logits.square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_token_dropout_shortens_only_while_training() -> None:
    """Hidden tokens cost nothing: training sees fewer, evaluation all of them."""
    model = network("dot", token_dropout=0.5)
    ids = torch.full((4, 40), 7)
    assert model(ids)[1].shape[3] == 40
    model.train()
    assert 1 <= model(ids)[1].shape[3] < 40


def test_token_dropout_keeps_the_first_token() -> None:
    """Even when all others are hidden, a row keeps its begin token."""
    model = network("dot", token_dropout=1.0).train()
    assert model(padded_ids(5, 6))[1].shape == (5, 3, 1, 1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"width": 10}, "width 10 is not a multiple of heads 3"), ({"score": "cosine"}, "'cosine'")],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, object], text: str) -> None:
    """The error names the field and the value."""
    sizes = {"width": 12, "heads": 3} | changes
    with pytest.raises(ValueError, match=text):
        AttentionConfig(vocabulary=9, classes=2, **sizes)  # type: ignore[arg-type]  # wrong on purpose


Run = Callable[[torch.Tensor], list[np.ndarray]]


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep the exporter's own notices, which are not about the model, out of the test."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("score", SCORES)
def test_the_onnx_graph_equals_the_network(score: Score) -> None:
    """Both axes stay dynamic, and ONNX Runtime agrees at every batch size and length."""
    model = network(score)
    program = torch.onnx.export(
        model,
        (padded_ids(3, 11),),
        dynamo=True,
        opset_version=20,
        dynamic_shapes=({0: "batch", 1: "time"},),
        input_names=["ids"],
        output_names=["logits", "weights"],
        verbose=False,
    )
    assert program is not None
    session = ort.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert session.get_inputs()[0].shape == ["batch", "time"]
    assert session.get_outputs()[1].shape == ["batch", 3, "time", "time"]
    for batch in (1, 2, 7, 64):
        for time in (1, 7, LONGEST):
            ids = padded_ids(batch, time)
            with torch.inference_mode():
                logits, weights = model(ids)
            got_logits, got_weights = session.run(None, {"ids": ids.numpy()})
            np.testing.assert_allclose(got_logits, logits.numpy(), atol=1e-5, rtol=0)
            np.testing.assert_allclose(got_weights, weights.numpy(), atol=1e-5, rtol=0)
