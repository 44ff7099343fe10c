"""From a recipe's model section and a contract to the network, its example and its explanation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from service.contract import Contract, ImagePipeline, SequencePipeline, TextPipeline
from training.calibration import Shifted
from training.models.attention import AttentionClassifier, AttentionConfig
from training.models.cnn import (
    ArticleCnn,
    ArticleCnnConfig,
    CamExplanation,
    GapCnn,
    GapCnnConfig,
    Shape,
)
from training.models.rnn import RnnClassifier, RnnConfig
from training.parity import sample
from training.recipe import ArticleCnnModel, AttentionModel, CnnModel, Model, RnnModel

# Sizes that an exporter could take for another axis of the same size are avoided.
_BATCHES = (3, 5, 7, 11)
_LENGTHS = (11, 13, 17, 19)
_TAKE = {"image": ("cnn", "cnn-article"), "sequence": ("rnn",), "text": ("attention",)}


def require_family(model: Model, kind: str) -> None:
    """Raise ValueError, with what does, where the network's family does not take this kind."""
    if model.family not in _TAKE.get(kind, ()):
        raise _foreign(model, kind)


def build_network(model: Model, contract: Contract) -> nn.Module:
    """Return an untrained network that takes the contract's inputs and returns logits first.

    Raises ValueError where the family does not take this kind of data, or its sizes do not fit.
    """
    classes, pipeline = len(contract.labels or ()), contract.pipeline
    if isinstance(pipeline, ImagePipeline) and isinstance(model, CnnModel | ArticleCnnModel):
        shape = (pipeline.channels, pipeline.height, pipeline.width)
        return _convolutional(model, shape, classes)
    if isinstance(pipeline, SequencePipeline) and isinstance(model, RnnModel):
        return _recurrent(model, pipeline.channels, classes)
    if isinstance(pipeline, TextPipeline) and isinstance(model, AttentionModel):
        return _attentive(model, pipeline.tokenizer.vocabulary, classes)
    raise _foreign(model, pipeline.kind)


def _foreign(model: Model, kind: str) -> ValueError:
    families = " or ".join(_TAKE.get(kind, ("none",)))
    return ValueError(
        f"model.family '{model.family}' does not take data of kind '{kind}'; {families} does"
    )


def _convolutional(model: CnnModel | ArticleCnnModel, shape: Shape, classes: int) -> nn.Module:
    if isinstance(model, ArticleCnnModel):
        return ArticleCnn(ArticleCnnConfig(shape, classes))
    return GapCnn(GapCnnConfig(shape, classes, width=model.width, dropout=model.dropout))


def _recurrent(model: RnnModel, channels: int, classes: int) -> nn.Module:
    return RnnClassifier(
        RnnConfig(
            channels,
            classes,
            cell=model.cell,
            hidden=model.hidden,
            layers=model.layers,
            bidirectional=model.bidirectional,
            pooling=model.pooling,
            skip=model.skip,
            dropout=model.dropout,
        )
    )


def _attentive(model: AttentionModel, vocabulary: int, classes: int) -> nn.Module:
    return AttentionClassifier(
        AttentionConfig(
            vocabulary,
            classes,
            width=model.width,
            heads=model.heads,
            score=model.score,
            score_width=model.score_width,
            dropout=model.dropout,
            token_dropout=model.token_dropout,
            embedding_std=model.embedding_std,
        )
    )


def example_inputs(contract: Contract) -> tuple[Tensor, ...]:
    """Return inputs to export with: no variable axis has the size of a fixed one."""
    taken = {size for tensor in contract.inputs for size in tensor.shape}
    batch = next(size for size in _BATCHES if size not in taken)
    length = next(size for size in _LENGTHS if size not in taken)
    random = np.random.default_rng(0)
    return tuple(torch.as_tensor(value) for value in sample(contract, batch, length, random))


def explanation(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]] | None:
    """Return a second network that explains the first, with its outputs' names, if it has one."""
    bare = network.network if isinstance(network, Shifted) else network
    return (CamExplanation(bare), ("maps",)) if isinstance(bare, GapCnn) else None
