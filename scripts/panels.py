"""Draw the graphs of a dashboard, for the documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_COLUMNS = 3


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph: seconds and values by label."""

    title: str
    unit: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    stacked: bool


def draw(graphs: Iterable[Graph], file: Path) -> None:
    """Draw all in one picture, in the order of the dashboard."""
    # Only whoever asks for a picture needs it.
    from matplotlib.figure import Figure  # noqa: PLC0415

    shown = list(graphs)
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(15, 2.6 * rows), layout="constrained")
    places = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for place in places:
        place.set_axis_off()
    for graph, place in zip(shown, places, strict=False):
        place.set_axis_on()
        place.set_title(graph.title, fontsize=9, loc="left")
        if graph.stacked:
            _stack(place, graph.lines)
        else:
            for label, points in sorted(graph.lines.items()):
                place.plot(*zip(*points, strict=True), label=label, linewidth=1)
        place.set_ylim(bottom=0)
        place.set_ylabel("" if graph.unit == "short" else graph.unit, fontsize=7)
        place.tick_params(labelsize=7)
        place.grid(linewidth=0.3)
        place.legend(fontsize=6, loc="upper left", ncols=2)
    figure.savefig(file, dpi=80)


def _stack(place: object, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Draw values on top of each other; where one is missing it is nothing."""
    times = sorted({at for points in lines.values() for at, _ in points})
    known = {label: dict(points) for label, points in sorted(lines.items())}
    values = [[found.get(at, 0.0) for at in times] for found in known.values()]
    place.stackplot(times, values, labels=list(known), alpha=0.7)  # type: ignore[attr-defined] # matplotlib carries no types here
