"""A self-attention classifier over token ids, which shows where it looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.models.masks import lowest

Score = Literal["concat", "additive", "dot"]
PAD = 0


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """The network's size; ``vocabulary`` counts the ids, padding among them.

    Each head works on ``width / heads`` numbers; ``score_width`` is what one head of the additive
    score works on. ``token_dropout`` is the share of tokens hidden while training. ``score_gain``
    multiplies the initial W_1 and W_2 of the score: embeddings begin small, and with a gain of 1
    the weights start, and stay, almost uniform.
    """

    vocabulary: int
    classes: int
    width: int = 64
    heads: int = 4
    score: Score = "dot"
    score_width: int = 8
    dropout: float = 0.2
    token_dropout: float = 0.2
    embedding_std: float = 0.1
    score_gain: float = 1.0

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.score not in ("concat", "additive", "dot"):
            raise ValueError(f"score '{self.score}': must be concat, additive or dot")


class ConcatScore(nn.Module):
    """The linear score s(h_i, h_j) = W_s [h_i ; h_j] + b_s, a scalar a head.

    It is computed as W_1 h_i + W_2 h_j + b_s with W_s = [W_1 W_2]. Being linear, it gives every
    query the same weights: W_1 h_i and b_s are the same for all j, so the softmax over j cancels
    them, and what is left is a weight of the key alone. Use it to study that, not to get far.
    """

    def __init__(self, config: AttentionConfig) -> None:
        """Make one output a head for each half of W_s."""
        super().__init__()
        self.query = nn.Linear(config.width, config.heads)
        self.key = nn.Linear(config.width, config.heads, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """Return the scores [batch, heads, query, key] of states [batch, time, width]."""
        query = self.query(states).transpose(1, 2).unsqueeze(3)
        key = self.key(states).transpose(1, 2).unsqueeze(2)
        scores: Tensor = query + key
        return scores


class AdditiveScore(nn.Module):
    """The score s(h_i, h_j) = v^T tanh(W_1 h_i + W_2 h_j + b) (Bahdanau et al., 2015)."""

    def __init__(self, config: AttentionConfig) -> None:
        """Make W_1, W_2 and v for each head."""
        super().__init__()
        self.heads = config.heads
        self.width = config.score_width
        self.query = nn.Linear(config.width, config.heads * config.score_width)
        self.key = nn.Linear(config.width, config.heads * config.score_width, bias=False)
        self.v = nn.Parameter(torch.randn(config.heads, config.score_width, 1))

    def forward(self, states: Tensor) -> Tensor:
        """Return the scores [batch, heads, query, key] of states [batch, time, width]."""
        query = _split(self.query(states), self.heads).unsqueeze(3)
        key = _split(self.key(states), self.heads).unsqueeze(2)
        # The product sums over score_width: [batch, heads, query, key, 1].
        scores: Tensor = (torch.tanh(query + key) @ self.v.unsqueeze(1)).squeeze(4)
        return scores


class DotScore(nn.Module):
    """The score s(h_i, h_j) = (W_1 h_i)^T (W_2 h_j) / sqrt(d) (Vaswani et al., 2017)."""

    def __init__(self, config: AttentionConfig) -> None:
        """Make W_1 and W_2 for all heads at once."""
        super().__init__()
        self.heads = config.heads
        self.scale = (config.width // config.heads) ** -0.5
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """Return the scores [batch, heads, query, key] of states [batch, time, width]."""
        query = _split(self.query(states) * self.scale, self.heads)
        key = _split(self.key(states), self.heads)
        return query @ key.transpose(2, 3)


class SelfAttention(nn.Module):
    """Multi-head self-attention: each state becomes a mean of all values, weighted by score."""

    def __init__(self, config: AttentionConfig) -> None:
        """Make the score, the values and the projection that joins the heads."""
        super().__init__()
        scores: dict[str, type[ConcatScore | AdditiveScore | DotScore]] = {
            "concat": ConcatScore,
            "additive": AdditiveScore,
            "dot": DotScore,
        }
        score = scores[config.score](config)
        with torch.no_grad():
            score.query.weight.mul_(config.score_gain)
            score.key.weight.mul_(config.score_gain)
        self.heads = config.heads
        self.score = score
        self.value = nn.Linear(config.width, config.width)
        self.join = nn.Linear(config.width, config.width)

    def forward(self, states: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return contexts [batch, time, width] and weights [batch, heads, query, key].

        ``real`` [batch, time] is false at padding, whose weights are 0 as key and as query.
        """
        pairs = (real.unsqueeze(1) & real.unsqueeze(2)).unsqueeze(1)
        scores = self.score(states).masked_fill(~pairs, lowest(states.dtype))
        weights = torch.softmax(scores, dim=3) * pairs.to(states.dtype)
        context = weights @ _split(self.value(states), self.heads)
        joined: Tensor = self.join(context.transpose(1, 2).flatten(2))
        return joined, weights


class AttentionPool(nn.Module):
    """A weighted mean of the states over time; each head has its own learnt weights."""

    def __init__(self, config: AttentionConfig) -> None:
        """Make one score and one share of the width a head."""
        super().__init__()
        self.heads = config.heads
        self.hidden = nn.Linear(config.width, config.width)
        self.score = nn.Linear(config.width, config.heads, bias=False)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """Return [batch, width] for states [batch, time, width]."""
        scores = self.score(torch.tanh(self.hidden(states)))
        weights = torch.softmax(scores.masked_fill(~real.unsqueeze(2), lowest(states.dtype)), dim=1)
        # One query a head: [batch, heads, 1, time] by [batch, heads, time, width / heads].
        pooled = weights.transpose(1, 2).unsqueeze(2) @ _split(states, self.heads)
        return pooled.flatten(1)


class AttentionClassifier(nn.Module):
    """Embedding, one self-attention layer with a residual, attention pooling, a linear head.

    No positions: the order of words is carried by the tokens (pairs of words), so that a text of
    any length can be run.
    """

    def __init__(self, config: AttentionConfig) -> None:
        """Make the layers; embeddings begin small, so that unseen tokens weigh little."""
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=config.embedding_std)
        nn.init.zeros_(self.embedding.weight[PAD])
        self.attention = SelfAttention(config)
        self.pool = AttentionPool(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [batch, classes] and weights [batch, heads, time, time].

        ``ids`` is int64 [batch, time], 0 where a row has ended.
        """
        ids = self._hide(ids)
        real = ids.ne(PAD)
        states = self.dropout(self.embedding(ids))
        context, weights = self.attention(states, real)
        pooled = self.pool(states + context, real)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits, weights

    def _hide(self, ids: Tensor) -> Tensor:
        """Take away a share of the tokens while training; the first of a row always stays.

        What is left moves together, so that a step also costs less: attention goes with time
        squared. Nothing depends on the places, for there are no positions.
        """
        if not self.training or not self.config.token_dropout:
            return ids
        kept = torch.rand(ids.shape, device=ids.device) >= self.config.token_dropout
        kept[:, 0] = True
        kept &= ids.ne(PAD)
        order = kept.int().argsort(dim=1, descending=True, stable=True)
        longest = int(kept.sum(dim=1).max())
        return ids.masked_fill(~kept, PAD).gather(1, order)[:, :longest]


def _split(states: Tensor, heads: int) -> Tensor:
    """Return [batch, heads, time, width / heads] of [batch, time, width]."""
    batch, time, width = states.shape
    return states.view(batch, time, heads, width // heads).transpose(1, 2)
