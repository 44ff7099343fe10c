"""What `training.raws` promises."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from service.contract import ImagePipeline, SequencePipeline, TextPipeline
from service.pipeline import ImageRows, SequenceRows, TextRows
from service.tokens import Tokenizer, TokenizerConfig
from training.data.dataset import DataSet, Examples, make_dataset
from training.raws import golden_examples, to_raw

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_comes_back_from_its_raw_form_unchanged(channels: int) -> None:
    """PNG loses nothing, grey or in colour."""
    picture = RANDOM.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    config = ImagePipeline(
        height=5, width=7, channels=1 if channels == 1 else 3, mean=[0.5] * channels,
        std=[0.5] * channels,
    )  # fmt: skip
    rows = ImageRows(config, "image")
    found = rows.decode(to_raw(picture), "image/png")["image"]
    np.testing.assert_array_equal(found, rows.pixels(picture))


def test_a_series_comes_back_from_its_raw_form_to_the_last_bit() -> None:
    """JSON holds every digit of a 32-bit float."""
    series = RANDOM.standard_normal((9, 2)).astype(np.float32) * np.float32(1e-7)
    config = SequencePipeline(channels=2, mean=[0, 0], std=[1, 1], max_length=16)
    found = SequenceRows(config, "values", "lengths").decode(to_raw(series), "application/json")
    np.testing.assert_array_equal(found["values"], series)
    assert len(json.loads(to_raw(series))) == 9


def test_a_text_gets_the_ids_that_it_has_in_training() -> None:
    """Also where it holds what UTF-8 cannot."""
    config = TokenizerConfig()
    for text in ("héllo\n$$", "broken \ud800 half"):
        rows = TextRows(TextPipeline(tokenizer=config), "ids")
        found = rows.decode(to_raw(text), "text/plain")["ids"]
        np.testing.assert_array_equal(found, Tokenizer(config).encode(text))


def texts(train: list[int], test: list[int], classes: int) -> DataSet:
    """Return a data set whose texts tell their split, place and class."""
    splits = [
        Examples(tuple(f"{name}{i} {c}" for i, c in enumerate(labels)), np.asarray(labels))
        for name, labels in (("train", train), ("test", test))
    ]
    names = tuple(f"class {i}" for i in range(classes))
    return make_dataset("texts", names, splits[0], splits[1], source="here", license="none")


def test_golden_examples_hold_every_class_from_the_test_split() -> None:
    """They are taken from the classes in turn, so none outweighs the others."""
    chosen = golden_examples(texts([0, 1, 2], [0] * 90 + [1] * 9 + [2] * 9, 3))
    assert len(chosen) == 16
    assert all(text.startswith("test") for text in chosen)
    assert Counter(text[-1] for text in chosen) == {"0": 6, "1": 5, "2": 5}


def test_golden_examples_of_a_class_without_test_rows_are_training_rows() -> None:
    """No class may be missing from the proof."""
    chosen = golden_examples(texts([0, 1], [0], 2))
    assert set(chosen) == {"test0 0", "train0 0", "train1 1"}
    assert len(chosen) == 16


def test_there_is_a_golden_example_for_each_of_many_classes() -> None:
    """More classes than sixteen make more vectors."""
    chosen = golden_examples(texts(list(range(40)), list(range(40)), 40))
    assert len(set(chosen)) == len(chosen) == 40
