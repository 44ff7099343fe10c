"""What a run leaves for people and machines: metrics, history, plots and the model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.contract import Contract
from training.baselines import Baseline
from training.data.dataset import DataSet
from training.evaluate import Evaluation
from training.learn import Learnt
from training.plots import plot_confusion, plot_curves, plot_errors
from training.statistics import Interval, Scores

MAX_ERRORS = 12
Json = dict[str, Any]

_CARD = """# {name}

A classifier of {kind} into {count} classes: {classes}.

Data: {source}. License: {license}. {train_rows} training rows.
Recipe: `{recipe}` with seed {seed}, in full in `recipe.toml`.

## How good it is

On {rows} test rows that training never saw, each sent as raw input through the serving pipeline and
the exported `model.onnx`:

{figures}

Expected calibration error: {calibration}.

## By class

{by_class}

## Beside simpler methods on the same split

{methods}

## How it was made

{parameters} parameters, {size} bytes; trained in {seconds} s ({machine}).
`parity.json` says how far the exported graph is from the network that was trained.

## What it is not for

It knows the classes above and nothing else: any other input gets one of them too. The figures hold
for data like the test rows.
"""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything known about one trained model at the end of its run."""

    name: str
    recipe: str
    seed: int
    dataset: DataSet
    contract: Contract
    learnt: Learnt
    evaluation: Evaluation
    baselines: Sequence[Baseline]
    machine: Mapping[str, str | int]

    @property
    def parameters(self) -> int:
        """The number of weights that training changes."""
        return sum(weight.numel() for weight in self.learnt.network.parameters())

    def metrics(self) -> Json:
        """Return the content of ``metrics.json``."""
        metrics = self.evaluation.as_json()
        metrics["model"]["parameters"] = self.parameters
        metrics["training"] = {
            "recipe": self.recipe,
            "seed": self.seed,
            "rows": len(self.dataset.train.labels),
            "epochs": len(self.learnt.history),
            "kept_epoch": self.learnt.epoch,
            "seconds": round(self.learnt.seconds, 2),
            "machine": dict(self.machine),
        }
        metrics["baselines"] = [baseline.as_json() for baseline in self.baselines]
        return metrics

    def card(self) -> str:
        """Return the content of ``model_card.md``."""
        scores, data = self.evaluation.scores, self.dataset
        kinds = {"image": "pictures", "sequence": "series", "text": "texts"}
        made = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return _CARD.format(
            name=self.name,
            kind=kinds[data.kind],
            count=len(data.classes),
            classes=", ".join(data.classes),
            source=data.source,
            license=data.license,
            train_rows=len(data.train),
            recipe=self.recipe,
            seed=self.seed,
            rows=scores.rows,
            figures=_figures(scores),
            calibration=f"{self.evaluation.calibration_error:.4f}",
            by_class=_classes(scores),
            methods=self._methods(),
            parameters=f"{self.parameters:,}",
            size=f"{self.evaluation.model_bytes:,}",
            seconds=f"{self.learnt.seconds:.0f}",
            machine=made,
        )

    def _methods(self) -> str:
        scores = self.evaluation.scores
        own = (self.name, scores.accuracy.value, scores.f1.value, self.learnt.seconds)
        rows = [own, *((b.name, b.accuracy, b.f1, b.seconds) for b in self.baselines)]
        return _table(
            ("method", "accuracy", "macro F1", "training seconds"),
            [(name, f"{a:.4f}", f"{f1:.4f}", f"{s:.1f}") for name, a, f1, s in rows],
        )


def write_report(folder: Path, report: Report) -> None:
    """Write metrics, the model card and the plots into a run's folder."""
    write_json(folder / "metrics.json", report.metrics())
    (folder / "model_card.md").write_text(report.card(), encoding="utf-8")
    write_history(folder, report.learnt)
    scores = report.evaluation.scores
    plot_confusion(folder / "plots" / "confusion.png", scores.confusion, report.dataset.classes)
    examples, titles = worst_errors(report)
    plot_errors(folder / "plots" / "errors.png", examples, titles, report.dataset.kind)


def write_history(folder: Path, learnt: Learnt) -> None:
    """Write ``history.json`` and the curves."""
    write_json(folder / "history.json", {"epochs": learnt.history, "kept_epoch": learnt.epoch})
    names = dict.fromkeys(name for epoch in learnt.history for name in epoch)
    series = {name: [epoch[name] for epoch in learnt.history if name in epoch] for name in names}
    plot_curves(folder / "plots" / "curves.png", series)


def worst_errors(report: Report) -> tuple[list[object], list[str]]:
    """Return the test rows that were answered wrongly with the most confidence, with titles."""
    answered = report.evaluation.answered
    truth = np.asarray(report.dataset.test.labels)
    sure = report.evaluation.probabilities.max(axis=1)
    wrong = np.flatnonzero(answered != truth)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:MAX_ERRORS].tolist()
    classes = report.dataset.classes
    titles = [f"{classes[truth[i]]}, not {classes[answered[i]]} ({sure[i]:.2f})" for i in worst]
    return [report.dataset.test.inputs[i] for i in worst], titles


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON for machines that a person can read too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _figures(scores: Scores) -> str:
    named = {
        "accuracy": scores.accuracy,
        "precision, mean over classes": scores.precision,
        "recall, mean over classes": scores.recall,
        "F1, mean over classes": scores.f1,
    }
    rows = [(name, f"{i.value:.4f}", f"{i.low:.4f} to {i.high:.4f}") for name, i in named.items()]
    return _table(("figure", "value", "95 % interval"), rows)


def _classes(scores: Scores) -> str:
    return _table(
        ("class", "precision", "recall", "F1", "rows"),
        [
            (c.label, _short(c.precision), _short(c.recall), _short(c.f1), str(c.support))
            for c in scores.classes
        ],
    )


def _short(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join((lines[0], "|" + " --- |" * len(head), *lines[1:]))
