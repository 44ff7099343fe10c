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
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from training.__main__ import main
from training.recipe import Recipe, parse_recipe

FAMILIES = ("cnn", "cnn-article", "rnn", "attention")
TRAIN, TEST = 12, 4
# A label beyond ASCII: files must not depend on the locale.
WORDS = {
    "späm": ["win", "money", "now", "free", "prize", "click", "offer", "cash", "bonus"],
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
[optim]
lr = 0.05
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
classes = ["späm", "ham"]
[model]
family = "attention"
width = 4
heads = 2
[model.tokens]
buckets = 64
max_tokens = 16
[optim]
lr = 0.05
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
    file.write_text(tiny_recipe(family, root, *overrides).to_toml(), encoding="utf-8")
    return file


def write_softmax(
    file: Path, shape: Sequence[int | str], axis: int = 1, *, external: bool = False
) -> Path:
    """Write a model that adds a weight to ``x`` and takes the softmax over ``axis`` as ``y``."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in ("x", "y")
    ]
    # Only weights that are kept as raw bytes can lie in a file of their own.
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "w"], ["sum"]),
            helper.make_node("Softmax", ["sum"], ["y"], axis=axis),
        ],
        "softmax",
        values[:1],
        values[1:],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(
        model,
        str(file),
        save_as_external_data=external,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    return file


def write_vectors(file: Path, count: int = 16) -> Path:
    """Write an npz file of golden inputs: ``x`` with rows of three."""
    x = np.random.default_rng(0).random((count, 3), np.float32)
    np.savez(file, allow_pickle=False, x=x)
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


class StopAt(io.StringIO):
    """A terminal before which somebody presses Ctrl-C when a text appears so many times."""

    def __init__(self, text: str, *, times: int = 1) -> None:
        super().__init__()
        self._text = text
        self._times = times

    def write(self, text: str) -> int:
        """Take the text, and stop whoever wrote the one that is waited for."""
        count = super().write(text)
        if self._text in text:
            self._times -= 1
            if not self._times:
                raise KeyboardInterrupt
        return count


def say(
    *arguments: str | Path, out: io.StringIO | None = None, err: io.StringIO | None = None
) -> Said:
    """Run ``onnxport-train`` with these arguments, as a shell would."""
    out, err = out or io.StringIO(), err or io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main([str(one) for one in arguments])
    code = end.value.code or 0
    assert isinstance(code, int)
    return Said(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True, slots=True)
class Workshop:
    """A repository and the folder of the runs that fill it."""

    repository: Path
    runs: Path

    @property
    def options(self) -> tuple[str, ...]:
        """What tells a command to work here."""
        return ("--repository", str(self.repository), "--runs", str(self.runs))


@dataclass(frozen=True, slots=True)
class Run:
    """One run on the command line: what it said, its recipe's file, its folder and its bundle."""

    said: Said
    recipe: Path
    folder: Path
    bundle: Path
