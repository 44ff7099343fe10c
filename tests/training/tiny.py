"""Data sets and recipes so small that training takes a moment, and the command line in-process."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.__main__ import main
from training.recipe import Recipe, parse_recipe

FAMILIES = ("cnn", "cnn-article", "rnn", "attention")
TRAIN, TEST = 12, 4
WORDS = {
    "spam": ["win", "money", "now", "free", "prize", "click", "offer", "cash", "bonus"],
    "ham": ["meeting", "notes", "from", "monday", "about", "the", "budget", "plan", "lunch"],
}

_PICTURES = """
name = "pictures"
[data]
format = "images"
[model]
family = "cnn"
width = 2
[augment.image]
flip = 0.5
shift = 1
cutout = 2
[train]
epochs = 2
batch = 8
average = 0.9
validation = 0.25
patience = 2
threads = 1
baselines = false
"""
_ARTICLE = """
name = "article"
[data]
format = "images"
[model]
family = "cnn-article"
[optim]
algorithm = "adam"
schedule = "constant"
warmup = 0.0
[train]
epochs = 1
batch = 8
threads = 1
baselines = false
"""
_SERIES = """
name = "series"
[data]
format = "series"
[model]
family = "rnn"
hidden = 4
[augment.series]
noise = 0.1
offset = 0.1
gain = 0.1
crop = 0.3
[train]
epochs = 2
batch = 8
smoothing = 0.05
threads = 1
baselines = false
"""
_TEXTS = """
name = "texts"
[data]
format = "texts"
split_column = "part"
[model]
family = "attention"
width = 4
heads = 2
[model.tokens]
buckets = 64
max_tokens = 16
[train]
epochs = 2
batch = 8
prior = 1.0
calibration = 2
threads = 1
"""
RECIPES = {"cnn": _PICTURES, "cnn-article": _ARTICLE, "rnn": _SERIES, "attention": _TEXTS}


def write_data(folder: Path) -> dict[str, Path]:
    """Write a data set of two classes for each family; return where each lies."""
    return {
        "cnn": _write_pictures(folder / "pictures", 8),
        "cnn-article": _write_pictures(folder / "large-pictures", 18),
        "rnn": _write_series(folder / "series.npz"),
        "attention": _write_texts(folder / "texts.jsonl"),
    }


def _write_pictures(folder: Path, side: int) -> Path:
    random = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("test", TEST)):
        for label, low in (("dark", 0), ("light", 100)):
            place = folder / part / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(low, low + 150, (side, side), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def _write_series(file: Path) -> Path:
    random = np.random.default_rng(0)
    count = 2 * (TRAIN + TEST)
    lengths = random.integers(3, 8, count)
    labels = ["rising", "falling"] * (count // 2)
    series = []
    for label, length in zip(labels, lengths.tolist(), strict=True):
        slope = np.linspace(-1, 1, length) * (1 if label == "rising" else -1)
        series.append(slope[:, None] + random.normal(0, 0.5, (length, 2)))
    np.savez(
        file,
        values=np.concatenate(series).astype(np.float32),
        lengths=lengths,
        labels=labels,
        n_train=2 * TRAIN,
    )
    return file


def _write_texts(file: Path) -> Path:
    random = np.random.default_rng(0)
    rows = [
        {"label": label, "part": part, "text": " ".join(random.choice(WORDS[label], 9))}
        for part, count in (("train", TRAIN), ("test", TEST))
        for label in WORDS
        for _ in range(count)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def tiny_recipe(family: str, root: Path, *overrides: str) -> Recipe:
    """Return a recipe that trains in a moment on the data at ``root``."""
    return parse_recipe(RECIPES[family], [f"data.root={root}", *overrides])


def write_recipe(folder: Path, family: str, root: Path, *overrides: str) -> Path:
    """Write such a recipe to a file, as a person would."""
    file = folder / f"{family}.toml"
    file.write_text(tiny_recipe(family, root, *overrides).to_toml())
    return file


@dataclass(frozen=True, slots=True)
class Said:
    """What a command has written, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:  # a list or an object
        """Return what was written to standard output, which must be one JSON value."""
        assert self.code == 0, self.err
        return json.loads(self.out)


def say(*arguments: str | Path, err: io.StringIO | None = None) -> Said:
    """Run ``onnxport-train`` with these arguments, as a shell would."""
    return _captured([str(one) for one in arguments], io.StringIO(), err or io.StringIO())


def _captured(arguments: Sequence[str], out: io.StringIO, err: io.StringIO) -> Said:
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Said(code, out.getvalue(), err.getvalue())
