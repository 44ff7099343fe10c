"""One picture of a run: requests/s of every server, a panel a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cases import Case
from benchmarks.summary import Row

_LIMIT = "ONNX Runtime in process"
_WIDTH = 0.85
_PANEL = (11.0, 3.2)


def draw(rows: Sequence[Row], limits: Mapping[str, float], file: Path) -> Path:
    """Write the closed loops of one row a request as grouped bars; return the file.

    The dashed line is what ONNX Runtime reaches in process.
    """
    shown = [row for row in rows if not row.case.factor and row.case.rows == 1]
    models = list(dict.fromkeys(row.case.model for row in shown))
    servers = list(dict.fromkeys(row.server for row in shown))
    figure = Figure((_PANEL[0], _PANEL[1] * max(len(models), 1)), layout="constrained")
    for i, model in enumerate(models):
        axes = figure.add_subplot(len(models), 1, i + 1)
        _panel(axes, [row for row in shown if row.case.model == model], servers)
        if model in limits:
            axes.axhline(limits[model], color="black", linestyle="--", label=_LIMIT)
        axes.set_title(model)
    if models:
        figure.axes[0].legend(ncols=4, fontsize="small")
    figure.savefig(file)
    return file


def _panel(axes: Axes, rows: Sequence[Row], servers: Sequence[str]) -> None:
    cases = list(dict.fromkeys(row.case for row in rows))
    width = _WIDTH / len(servers)
    for i, server in enumerate(servers):
        found = {row.case: row.rate for row in rows if row.server == server}
        places = [j + (i - (len(servers) - 1) / 2) * width for j in range(len(cases))]
        axes.bar(places, [found.get(case, 0.0) for case in cases], width, label=server)
    axes.set_xticks(range(len(cases)), [_label(case) for case in cases])
    axes.set_yscale("log")
    axes.set_ylabel("requests/s")


def _label(case: Case) -> str:
    return f"{case.encoding}\n{case.connections} conn."
