"""What `training.report` promises, on figures made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from service.tokens import TokenizerConfig
from training.baselines import Baseline
from training.contracts import make_contract
from training.data import Examples, make_dataset
from training.evaluate import Evaluation
from training.learn import Learnt
from training.report import MAX_ERRORS, Report, worst_errors, write_history, write_report
from training.statistics import calibration_error, score

CLASSES = ("yes|no", "maybe {so}")
HISTORY = [
    {"train_loss": 0.7, "train_accuracy": 0.5, "seconds": 1.0},
    {"train_loss": 0.2, "train_accuracy": 1.0, "validation_loss": 0.4, "seconds": 2.0},
]


def report(chances: list[float], truth: list[int]) -> Report:
    """Return a report of these chances of the first class, with one baseline."""
    probabilities = np.stack((np.array(chances), 1 - np.array(chances)), 1)
    labels = np.array(truth, np.int64)
    test = Examples(tuple(f"text {i}" for i in range(len(truth))), labels)
    train = Examples(("a", "b", "c"), np.array([0, 1, 1], np.int64))
    dataset = make_dataset("mails", CLASSES, train, test, source="my {mails}", license="CC0")
    return Report(
        name="mine",
        recipe="attention",
        seed=7,
        dataset=dataset,
        contract=make_contract(dataset, TokenizerConfig()),
        learnt=Learnt(nn.Linear(3, 2), HISTORY, 2, 12.345),
        evaluation=Evaluation(
            probabilities,
            score(labels, probabilities.argmax(1), CLASSES),
            calibration_error(probabilities, labels),
            row_ms=0.25,
            model_bytes=123456,
        ),
        baselines=[Baseline("naive | Bayes", 0.5, 0.25, 3, 0.5)],
        machine={"cpu": "Great CPU", "cores": 2},
    )


RIGHT_AND_WRONG = report([0.9, 0.2, 0.6, 0.55], [0, 1, 1, 1])


def test_metrics_tell_figures_training_and_baselines() -> None:
    """As plain values for machines."""
    metrics = json.loads(json.dumps(RIGHT_AND_WRONG.metrics(), allow_nan=False))
    assert metrics["accuracy"]["value"] == 0.5
    assert metrics["confusion"] == [[1, 0], [2, 1]]
    assert metrics["model"] == {"bytes": 123456, "parameters": 8}
    assert metrics["training"] == {
        "recipe": "attention",
        "seed": 7,
        "rows": 3,
        "epochs": 2,
        "kept_epoch": 2,
        "seconds": 12.35,
        "machine": {"cpu": "Great CPU", "cores": 2},
    }
    assert [one["name"] for one in metrics["baselines"]] == ["naive | Bayes"]


def test_the_card_tells_people_the_same() -> None:
    """Names with signs that mean something to Markdown or to a template do no harm."""
    card = RIGHT_AND_WRONG.card()
    assert card.startswith("# mine\n")
    assert "A classifier of texts into 2 classes: yes|no, maybe {so}." in card
    assert "Data: my {mails}. License: CC0. 3 training rows." in card
    assert "| accuracy | 0.5000 |" in card
    assert "| yes\\|no | 0.333" in card
    assert "| naive \\| Bayes | 0.5000 | 0.2500 | 0.5 |" in card
    assert "8 parameters, 123,456 bytes; trained in 12 s (cpu Great CPU, cores 2)" in card


def test_the_surest_errors_come_first() -> None:
    """With what they are, what was answered, and how sure it was."""
    examples, titles = worst_errors(RIGHT_AND_WRONG)
    assert examples == ["text 2", "text 3"]
    assert titles == ["maybe {so}, not yes|no (0.60)", "maybe {so}, not yes|no (0.55)"]


def test_not_all_errors_are_shown() -> None:
    """A plot has room for a dozen; of equally sure ones the first come first."""
    examples, _ = worst_errors(report([0.8] * 20, [1] * 20))
    assert examples == [f"text {i}" for i in range(MAX_ERRORS)]


@pytest.mark.parametrize("chances", [[0.9, 0.2], [0.1, 0.8]])
def test_a_folder_gets_metrics_card_history_and_plots(tmp_path: Path, chances: list[float]) -> None:
    """Whether all answers are right or none."""
    made = report(chances, [0, 1])
    write_report(tmp_path, made)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    plots = {f"plots/{name}.png" for name in ("curves", "confusion", "errors")}
    assert files == plots | {"metrics.json", "model_card.md", "history.json"}
    assert json.loads((tmp_path / "metrics.json").read_text()) == made.metrics()
    assert (tmp_path / "model_card.md").read_text(encoding="utf-8") == made.card()


def test_the_history_is_there_before_the_report(tmp_path: Path) -> None:
    """A figure that some epochs lack is no hindrance."""
    write_history(tmp_path, RIGHT_AND_WRONG.learnt)
    history = json.loads((tmp_path / "history.json").read_text())
    assert history == {"epochs": HISTORY, "kept_epoch": 2}
    assert (tmp_path / "plots" / "curves.png").stat().st_size > 1000
