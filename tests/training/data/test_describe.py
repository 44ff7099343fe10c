"""Statistics of a data set."""

from __future__ import annotations

import json

import numpy as np
import pytest

from training.data import DataSet, DataSpec, Examples, describe, load, make_dataset

LABELS = np.array([0, 1, 1], np.int64)


def make(inputs: object) -> DataSet:
    """Return a data set with these inputs in both splits."""
    examples = Examples(inputs, LABELS)  # type: ignore[arg-type]
    return make_dataset("mine", ("a", "b"), examples, examples, source="here", license="mine")


def test_origin_and_classes_are_told() -> None:
    """Where the data come from and what they are is there, and all of it is JSON."""
    dataset = make(("x", "y z", "z"))
    found = json.loads(json.dumps(describe(dataset), allow_nan=False))
    assert found["fingerprint"] == dataset.fingerprint
    assert (found["name"], found["kind"], found["source"]) == ("mine", "text", "here")
    assert found["splits"]["train"]["classes"] == {"a": 1, "b": 2}


def test_pictures_by_channel() -> None:
    """Range, mean, deviation and quantiles are exact, of each channel."""
    pixels = np.zeros((3, 10, 10, 3), np.uint8)
    pixels[..., 1] = np.arange(300).reshape(3, 10, 10) % 100
    pixels[..., 2] = 255
    found = describe(make(pixels))["splits"]["train"]
    assert (found["height"], found["width"], found["channels"]) == (10, 10, 3)
    red, green, blue = found["values"]
    assert (red["maximum"], blue["minimum"], blue["std"]) == (0, 255, 0)
    assert green["mean"] == pytest.approx(49.5)
    assert green["std"] == pytest.approx(float(pixels[..., 1].std()), abs=1e-6)
    assert green["quantiles"] == {"p01": 0, "p25": 24, "p50": 49, "p75": 74, "p99": 98}
    assert found["missing"] == {"values": 0, "rate": 0.0}


def test_series_by_channel_and_length() -> None:
    """Each channel has statistics of its own over all steps."""
    series = tuple(np.stack([np.arange(n), -np.ones(n)], 1).astype(np.float32) for n in (2, 3, 7))
    found = describe(make(series))["splits"]["test"]
    assert found["channels"] == 2
    assert found["lengths"]["minimum"] == 2
    assert found["lengths"]["median"] == 3
    assert found["lengths"]["maximum"] == 7
    first, second = found["values"]
    assert (first["minimum"], first["maximum"], first["quantiles"]["p50"]) == (0, 6, 1.5)
    assert (second["mean"], second["std"]) == (-1, 0)


def test_texts_by_characters_and_words() -> None:
    """Lengths in both, distinct words, and texts of blanks as missing."""
    found = describe(make(("one two", "two two three", "  ")))["splits"]["train"]
    assert (found["characters"]["maximum"], found["words"]["maximum"]) == (13, 3)
    assert found["distinct_words"] == 3
    assert found["missing"] == {"values": 1, "rate": 0.333333}


def test_embedded_data_are_described() -> None:
    """The real data give the figures that are known of them."""
    found = describe(load(DataSpec("japanese-vowels")))["splits"]
    assert found["train"]["lengths"]["maximum"] == 26
    assert found["test"]["lengths"]["maximum"] == 29
    assert len(found["train"]["values"]) == 12
