"""The plots of a run, as PNG files; drawn without a display and without global state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Draw = Callable[[Any, object], None]


def plot_curves(file: Path, history: Mapping[str, Sequence[float]]) -> None:
    """Draw loss and accuracy over the epochs; series are named ``train_loss`` and the like."""
    figure = _figure(10, 4)
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, values in history.items():
            if name.endswith(quantity) and values:
                label = name.removesuffix(f"_{quantity}")
                axes.plot(range(1, len(values) + 1), values, label=label)
                axes.legend()
        axes.set(xlabel="epoch", title=quantity)
        axes.grid(alpha=0.3)
    _write(figure, file)


def plot_confusion(file: Path, confusion: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Draw the counts [true, answered], shaded by the share of the true class."""
    size = min(14.0, 3 + 0.5 * len(classes))
    figure = _figure(size + 1, size)
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    names = [_plain(name, 24) for name in classes]
    places = range(len(classes))
    axes.set_xticks(places, names, rotation=90, parse_math=False)
    axes.set_yticks(places, names, parse_math=False)
    axes.set(xlabel="answered", ylabel="true")
    if len(classes) <= 30:
        for row, column in np.ndindex(confusion.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            count = str(confusion[row, column])
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
    _write(figure, file)


def plot_errors(file: Path, examples: Sequence[object], titles: Sequence[str], kind: str) -> None:
    """Draw wrongly answered examples: pictures, series as lines, or texts."""
    draw = {"image": _draw_picture, "sequence": _draw_series, "text": _draw_text}[kind]
    columns = 1 if kind == "text" else 4
    rows = max(1, -(-len(examples) // columns))
    figure = _figure(2.8 * columns if columns > 1 else 10, (1.1 if columns == 1 else 2.8) * rows)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for cell in cells:
        cell.axis("off")
    for cell, example, title in zip(cells, examples, titles, strict=False):
        cell.set_title(_plain(title, 60), fontsize=8, parse_math=False)
        draw(cell, example)
    if not examples:
        cells[0].text(0.5, 0.5, "no errors", ha="center")
    _write(figure, file)


def _draw_picture(axes: Any, example: object) -> None:  # noqa: ANN401 - matplotlib has no types
    pixels = np.asarray(example)
    grey = pixels.ndim == 3 and pixels.shape[2] == 1
    axes.imshow(pixels[..., 0] if grey else pixels, cmap="gray" if grey else None)


def _draw_series(axes: Any, example: object) -> None:  # noqa: ANN401 - as above
    axes.axis("on")
    axes.plot(np.asarray(example), linewidth=0.8)


def _draw_text(axes: Any, example: object) -> None:  # noqa: ANN401 - as above
    text = _plain(str(example), 420)
    lines = [text[start : start + 140] for start in range(0, len(text), 140)]
    axes.text(0, 1, "\n".join(lines), va="top", fontsize=7, family="monospace", parse_math=False)


def _plain(text: str, length: int) -> str:
    """Return at most ``length`` characters that the font has, on one line."""
    line = " ".join(text.split())
    shown = "".join(c if c.isprintable() and ord(c) < 256 else "?" for c in line[:length])
    return shown + ("..." if len(line) > length else "")


def _figure(width: float, height: float) -> Any:  # noqa: ANN401 - as above
    figure = Figure(figsize=(width, height), layout="tight")
    FigureCanvasAgg(figure)
    return figure


def _write(figure: Any, file: Path) -> None:  # noqa: ANN401 - as above
    file.parent.mkdir(parents=True, exist_ok=True)
    # No software tag: the same run gives the same bytes with any release of matplotlib.
    figure.savefig(file, dpi=100, metadata={"Software": None})
