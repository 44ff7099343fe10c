"""What `service.tokens` promises."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tokens import BEGIN, PAD, RESERVED, Tokenizer, TokenizerConfig

PINNED = [1, 633, 4583, 11473, 1649, 32725, 3452, 13820, 32622, 17079, 3043, 6215]
# Every code point: lone surrogates, control characters and emoji among them.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=300)
CONFIGS = st.builds(
    TokenizerConfig,
    buckets=st.integers(1, 5000),
    max_tokens=st.integers(1, 40),
    max_chars=st.integers(1, 80),
    pairs=st.booleans(),
    mask=st.booleans(),
)


def ids_of(text: str, *, mask: bool = True, max_chars: int = 400) -> list[int]:
    """Encode with single words only, so that an id stands for a word."""
    config = TokenizerConfig(pairs=False, mask=mask, max_chars=max_chars)
    return [int(token) for token in Tokenizer(config).encode(text)]


@given(TEXTS, CONFIGS)
def test_every_text_gets_ids_within_the_vocabulary(text: str, config: TokenizerConfig) -> None:
    """Whatever the text, there are 1 to max_tokens ids, the first BEGIN and none padding."""
    ids = Tokenizer(config).encode(text)
    assert ids.dtype == np.int64
    assert 1 <= len(ids) <= config.max_tokens
    assert ids[0] == BEGIN
    assert (ids[1:] >= RESERVED).all()
    assert (ids < config.vocabulary).all()
    assert PAD not in ids


@given(TEXTS, CONFIGS)
def test_a_config_survives_as_json(text: str, config: TokenizerConfig) -> None:
    """A config read back from JSON gives the same ids."""
    again = TokenizerConfig(**json.loads(json.dumps(asdict(config))))
    assert again == config
    assert np.array_equal(Tokenizer(again).encode(text), Tokenizer(config).encode(text))


@given(TEXTS, st.integers(1, 60))
def test_truncation_keeps_a_prefix(text: str, max_tokens: int) -> None:
    """A smaller max_tokens gives the first ids of a larger one."""
    full = Tokenizer(TokenizerConfig(max_tokens=2000)).encode(text)
    cut = Tokenizer(TokenizerConfig(max_tokens=max_tokens)).encode(text)
    assert np.array_equal(cut, full[:max_tokens])


def test_the_ids_of_a_text_are_pinned() -> None:
    """A published bundle keeps its meaning: these ids may never change."""
    ids = Tokenizer(TokenizerConfig()).encode("Buy NOW! It's café time")
    assert ids.tolist() == PINNED


def test_an_empty_text_is_only_the_begin_token() -> None:
    """A text without tokens still has length 1."""
    assert ids_of("") == ids_of(" \t\n ") == [BEGIN]


def test_case_and_space_do_not_matter() -> None:
    """Texts that differ only in case and white space get the same ids."""
    assert ids_of("Dear  FRIEND\n!") == ids_of("dear friend !")


def test_words_and_marks_are_tokens_of_their_own() -> None:
    """Apostrophes and accents stay inside words; marks and digits are split off."""
    assert len(ids_of("don't, café 42_x")) == 1 + 6


def test_pairs_follow_their_first_word_and_know_their_order() -> None:
    """With pairs, the words are at odd places and the pair of a and b is not that of b and a."""
    tokenizer = Tokenizer(TokenizerConfig())
    ab, ba = tokenizer.encode("free money"), tokenizer.encode("money free")
    assert len(ab) == len(ba) == 4
    assert (ab[1], ab[3]) == (ba[3], ba[1])
    assert ab[2] != ba[2]


def test_hashes_spread_over_the_buckets() -> None:
    """Ten thousand different pairs fill buckets about as chance would."""
    text = " ".join(
        chr(97 + i % 26) + chr(97 + i // 26 % 26) + chr(97 + i // 676) for i in range(9999)
    )
    config = TokenizerConfig(buckets=4096, max_tokens=99999, max_chars=99999)
    pairs = Tokenizer(config).encode(text)[2::2]
    # Chance leaves a share of exp(-9998 / 4096) = 0.087 empty.
    assert len(np.unique(pairs)) == pytest.approx(4096 * 0.913, rel=0.02)


@pytest.mark.parametrize(
    ("raw", "masked"),
    [
        ("see https://a.example/b?c=1 now", "see <url> now"),
        ("at WWW.Example.com/", "at <url>"),
        ("from jane.doe+x@mail.example.org to", "from <email> to"),
        ("pay 10000 in 2024 or 99", "pay <num> in <num> or 99"),
    ],
)
def test_addresses_and_long_numbers_are_masked(raw: str, masked: str) -> None:
    """A raw mail and its masked copy, as in the training data, get the same ids."""
    assert ids_of(raw) == ids_of(masked)
    assert ids_of(raw, mask=False) != ids_of(masked, mask=False)


def test_only_the_first_characters_are_read() -> None:
    """Text beyond max_chars changes nothing, and max_chars counts characters, not bytes."""
    assert ids_of("é " * 10 + "x" * 99, max_chars=20) == ids_of("é " * 10)


@pytest.mark.parametrize("piece", ["a", "a@", "a.", "http://", "www.", "\ud800", "9", "<a"])
def test_a_huge_text_costs_no_more_than_a_long_one(piece: str) -> None:
    """What is read is bounded before any pattern sees it."""
    huge = piece * 1_000_000
    assert np.array_equal(ids_of(huge), ids_of(huge[:1600]))


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ((0, 1, 1), "buckets is 0"),
        ((1, 0, 1), "max_tokens is 0"),
        ((1, 1, -3), "max_chars is -3"),
    ],
)
def test_a_size_below_one_is_refused(sizes: tuple[int, int, int], text: str) -> None:
    """The error names the field and the value."""
    with pytest.raises(ValueError, match=text):
        TokenizerConfig(*sizes)
