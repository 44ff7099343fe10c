"""From a recipe's model section and a contract to the network, its example and its explanation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from service.contract import Contract, TextPipeline
from training.models.attention import AttentionClassifier, AttentionConfig
from training.parity import sample
from training.recipe import AttentionModel, Model

# Sizes that an exporter could take for another axis of the same size are avoided.
_BATCHES = (3, 5, 7, 11)
_LENGTHS = (11, 13, 17, 19)


def build_network(model: Model, contract: Contract) -> nn.Module:
    """Return an untrained network that takes the contract's inputs and returns logits first."""
    classes = len(contract.labels or ())
    if isinstance(model, AttentionModel) and isinstance(contract.pipeline, TextPipeline):
        return AttentionClassifier(
            AttentionConfig(
                vocabulary=contract.pipeline.tokenizer.vocabulary,
                classes=classes,
                width=model.width,
                heads=model.heads,
                score=model.score,
                score_width=model.score_width,
                dropout=model.dropout,
                token_dropout=model.token_dropout,
                embedding_std=model.embedding_std,
            )
        )
    raise ValueError(
        f"model.family '{model.family}' does not take data of kind '{contract.pipeline.kind}'"
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
    del network
    return None
