"""Texts to token ids: one deterministic function for training and for serving."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int64]

PAD = 0
BEGIN = 1
RESERVED = 2

# In this order: what an earlier pattern has named is not touched by a later one. The look-behind
# and the possessive quantifier keep the search for addresses linear in the text.
_MASKS = (
    (b"//", re.compile(rb"https?://\S+"), b"<url>"),
    (b"www.", re.compile(rb"www\.\S+"), b"<url>"),
    (b"@", re.compile(rb"(?<![\w.+-])[\w.+-]++@[\w-]++(?:\.[\w-]++)+"), b"<email>"),
    (b"", re.compile(rb"[0-9]{3,}"), b"<num>"),
)
# Words keep their apostrophes; every other visible character is a token of its own.
_TOKEN = re.compile(rb"<[a-z]+>|[a-z'\x80-\xff]+|[0-9]+|[^\sa-z0-9]")
# Odd constants, so that the pair (a, b) is spread apart from (b, a); Knuth's and xxHash's primes.
_FIRST = np.uint64(2654435761)
_SECOND = np.uint64(2246822519)


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """All that decides which ids a text gets; plain values, so that it survives as JSON.

    Ids run from 0 to ``buckets + 1``: 0 is padding, 1 begins every text, the rest are hashes.
    ``max_chars`` characters are read, after masking, and ``max_tokens`` ids are kept, the first
    included. ``pairs`` adds a token for each two neighbours; ``mask`` turns web addresses, mail
    addresses and numbers of three digits or more into one token each.
    """

    # Read by pydantic, where the contract of a bundle holds this value.
    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}

    buckets: int = 32768
    max_tokens: int = 256
    max_chars: int = 400
    pairs: bool = True
    mask: bool = True

    def __post_init__(self) -> None:
        """Refuse sizes that leave no room for a token."""
        for name in ("buckets", "max_tokens", "max_chars"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} is {value}: must be at least 1")

    @property
    def vocabulary(self) -> int:
        """The number of ids, and so the rows of an embedding."""
        return self.buckets + RESERVED


class Tokenizer:
    """Lower-cased words, marks and pairs of neighbours, hashed into buckets.

    A hash needs no vocabulary file, knows no unknown word and is the same on every machine.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        """Keep the sizes; there is nothing to load."""
        self.config = config

    def encode(self, text: str) -> Ids:
        """Return the ids [length], 1 <= length <= max_tokens; never fails on a str.

        A word is followed by the pair that it makes with the next, so that cutting at
        ``max_tokens`` shortens both alike. A lone surrogate reads as a question mark.
        """
        config = self.config
        hashes = self._hashes(text)
        if config.pairs and len(hashes) > 1:
            tokens = np.empty(2 * len(hashes) - 1, np.uint64)
            tokens[::2] = hashes
            pairs = hashes[:-1] * _FIRST + hashes[1:] * _SECOND
            # The low bits of a product depend only on low bits, so the high ones are mixed in.
            tokens[1::2] = pairs ^ (pairs >> np.uint64(29))
        else:
            tokens = hashes
        kept = tokens[: config.max_tokens - 1]
        ids = np.empty(len(kept) + 1, np.int64)
        ids[0] = BEGIN
        ids[1:] = kept % np.uint64(config.buckets)
        ids[1:] += RESERVED
        return ids

    def _hashes(self, text: str) -> NDArray[np.uint64]:
        # A mask shortens the text: read on, but within a bound that no input can move.
        limit = self.config.max_chars
        if self.config.mask:
            raw = text[: 4 * limit].lower().encode("utf-8", "replace")
            for sign, pattern, name in _MASKS:
                if sign in raw:
                    raw = pattern.sub(name, raw)
            raw = raw.decode("utf-8", "ignore")[:limit].encode() if len(raw) > limit else raw
        else:
            raw = text[:limit].lower().encode("utf-8", "replace")
        return np.fromiter(map(crc32, _TOKEN.findall(raw)), np.uint64)
