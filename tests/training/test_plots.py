"""What `training.plots` promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.plots import plot_confusion, plot_curves, plot_errors


def size(file: Path) -> tuple[int, int]:
    """Return the size of a PNG file, which must be one."""
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        return picture.size


def test_curves_are_drawn_for_what_there_is(tmp_path: Path) -> None:
    """Validation may be missing, and a run may have one epoch."""
    plot_curves(tmp_path / "plots" / "curves.png", {"train_loss": [0.5], "train_accuracy": [0.9]})
    assert size(tmp_path / "plots" / "curves.png")[0] == 1000


def test_a_confusion_matrix_takes_any_labels(tmp_path: Path) -> None:
    """Labels with signs that are markup or not in the font do no harm."""
    labels = ["$x_{", "日本", "a" * 90]
    plot_confusion(tmp_path / "c.png", np.asarray([[3, 0, 1], [0, 0, 0], [1, 1, 5]]), labels)
    assert size(tmp_path / "c.png")[0] > 300


def test_a_large_confusion_matrix_is_drawn_without_its_counts(tmp_path: Path) -> None:
    """They would not be legible, and the picture stays of a size that can be looked at."""
    plot_confusion(tmp_path / "c.png", np.eye(40, dtype=np.int64), [f"c{i}" for i in range(40)])
    assert size(tmp_path / "c.png") == (1500, 1400)


@pytest.mark.parametrize(
    ("kind", "examples"),
    [
        ("image", [np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 3), np.uint8)]),
        ("sequence", [np.zeros((1, 2), np.float32), np.zeros((9, 2), np.float32)]),
        ("text", ["$$ win {now} \x00\u202e 日本" * 99, ""]),
    ],
)
def test_errors_of_every_kind_are_drawn(tmp_path: Path, kind: str, examples: list[object]) -> None:
    """Pictures, series and texts, however odd."""
    plot_errors(tmp_path / "e.png", examples, ["$true", "as\nb"], kind)
    assert size(tmp_path / "e.png")[1] > 100


def test_a_model_without_errors_has_a_plot_that_says_so(tmp_path: Path) -> None:
    """The file is there in any case."""
    plot_errors(tmp_path / "e.png", [], [], "image")
    assert size(tmp_path / "e.png")[1] > 100
