"""What the verbs of the command line do, and what they print."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from service.bundle import is_bundle
from training.binding import RecipeError, bind, override
from training.bundles import compare, evaluate_bundle, find_bundle
from training.data import check, describe, load
from training.gate import Demand
from training.lower import Lowered, base_of_bundle, base_of_run, export_lower
from training.progress import Listener, listening
from training.recipe import Recipe, load_recipe, recipe_names
from training.run import Outcome, run_recipe
from training.runs import has_checkpoints, is_finished, is_run, new_run, unfinished_run
from training.statistics import Scores


@dataclass(frozen=True, slots=True)
class Request:
    """What to train, and where the bundle and the run's folder go."""

    source: str
    overrides: tuple[str, ...]
    repository: Path
    runs: Path
    resume: bool = False


def train(request: Request, seeds: Sequence[int], *, as_json: bool) -> None:
    """Train once, or once a seed; print a table, or one line of JSON."""
    if request.resume and seeds:
        raise RecipeError("--resume goes on with one run: name it by its folder, without --seeds")
    changes = [(*request.overrides, f"seed={seed}") for seed in seeds] or [request.overrides]
    recipes = [load_recipe(request.source, one) for one in changes]
    outcomes = []
    for number, one in enumerate(recipes):
        folder = _folder(request, one)
        # Only the first seed is published; the others stay beside their run's report.
        repository = request.repository if number == 0 else folder / "models"
        with _resumable(folder, repository), _listener(one) as listener:
            outcomes.append(run_recipe(one, folder, repository, listener))
    tell(outcomes, as_json=as_json)


def _folder(request: Request, recipe: Recipe) -> Path:
    if not request.resume:
        return new_run(request.runs, recipe)
    folder = Path(request.source)
    if not is_run(folder):
        return unfinished_run(request.runs, recipe)
    if request.overrides:
        changes = " ".join(request.overrides)
        raise RecipeError(f"{folder}: a run is resumed as it began, without {changes}")
    if is_finished(folder):
        raise RecipeError(f"{folder}: this run is finished; publish it again with 'export'")
    return folder


@contextmanager
def _resumable(folder: Path, repository: Path) -> Iterator[None]:
    """Say how to go on when a person stops the run."""
    try:
        yield
    except KeyboardInterrupt:
        command = ["onnxport-train", str(folder), "--resume", "--repository", str(repository)]
        typer.echo(f"\nstopped; go on with: {shlex.join(command)}", err=True)
        raise typer.Exit(130) from None


@dataclass(frozen=True, slots=True)
class Export:
    """What to publish again: a finished run or a bundle, changed how, and where it goes.

    ``data`` is where a bundle's data lie, if not with the package.
    """

    source: Path
    changes: tuple[str, ...]
    repository: Path
    data: str = ""


def export(request: Export, *, as_json: bool) -> None:
    """Publish a finished run's network again, or a run or a bundle in a lower precision.

    Nothing is trained: a run's checkpoints hold its network.
    """
    demand = _demand(request.changes)
    if demand is not None:
        lowered = _lower(request, demand)
        if as_json:
            typer.echo(json.dumps({"bundle": str(lowered.bundle.path), **lowered.record}))
        else:
            _print_lowered(lowered)
        return
    _require_network(request.source)
    recipe = load_recipe(str(request.source))
    with _listener(recipe) as listener:
        outcome = run_recipe(recipe, request.source, request.repository, listener)
    tell([outcome], as_json=as_json)


def _demand(changes: Sequence[str]) -> Demand | None:
    if not changes:
        return None
    tree: dict[str, Any] = {}
    for assignment in changes:
        override(Demand, tree, assignment)
    return bind(Demand, tree)


def _require_network(folder: Path) -> None:
    if not is_run(folder) or not is_finished(folder):
        raise RecipeError(f"{folder}: not the folder of a finished run")
    if not has_checkpoints(folder):
        raise RecipeError(f"{folder}: has no checkpoints, and they alone hold the network")


def _lower(request: Export, demand: Demand) -> Lowered:
    with TemporaryDirectory(prefix="onnxport-") as scratch:
        # A bundle carries its recipe too, so it is what makes a folder a bundle that decides.
        if is_run(request.source) and not is_bundle(request.source):
            _require_network(request.source)
            recipe = load_recipe(str(request.source))
            with _listener(recipe) as listener:
                base = base_of_run(request.source, Path(scratch), listener)
        else:
            base = base_of_bundle(request.source, request.data)
        with _listener(base.recipe) as listener:
            return export_lower(base, demand, request.repository, listener)


def _print_lowered(lowered: Lowered) -> None:
    record = lowered.record
    gate, speed = record["gate"], record["speed"]
    typer.echo(
        f"{record['precision']}: accuracy {gate['accuracy']:.4f}, {gate['accuracy_fp32']:.4f} in "
        f"FP32, on {gate['rows']} {gate['split']} rows; {gate['labels_changed']} labels changed, "
        f"largest difference {gate['max_abs']:.3g}"
    )
    typer.echo(f"{record['bytes']:,} bytes, {record['made_of']['bytes']:,} in FP32")
    if speed is not None:
        typer.echo(
            f"a row alone is {speed['speedup_alone']:.2f} times as fast, on a busy server "
            f"{speed['speedup_served']:.2f} times"
        )
    if not record["rows_independent"]:
        typer.echo("rows depend on those beside them, so each runs by itself")
    typer.echo(f"published {lowered.bundle.path}")


def evaluate(path: Path, root: str, *, as_json: bool) -> None:
    """Measure a bundle again."""
    bundle = find_bundle(path)
    evaluation = evaluate_bundle(bundle, root)
    if as_json:
        typer.echo(json.dumps({"bundle": str(bundle.path), **evaluation.as_json()}))
        return
    _print(_scores_table(str(bundle.path), evaluation.scores))


def compare_bundles(paths: Sequence[Path], *, as_json: bool) -> None:
    """Print bundles side by side."""
    compared = compare([find_bundle(path) for path in paths])
    if as_json:
        typer.echo(json.dumps([one.as_json() for one in compared]))
        return
    table = _table("bundle", "accuracy", "macro F1", "ms a row", "bytes", "training s")
    for one in compared:
        table.add_row(
            one.bundle,
            _interval(one.accuracy),
            _interval(one.f1),
            _number(one.row_ms, 3),
            f"{one.model_bytes:,}",
            _number(one.training_seconds, 1),
        )
    _print(table)


def list_recipes() -> None:
    """Print each recipe with the data set and the network that it names."""
    table = _table("recipe", "network", "data")
    for name in recipe_names():
        recipe = load_recipe(name)
        table.add_row(name, recipe.model.family, recipe.data.name)
    _print(table)


def check_data(source: str, overrides: Sequence[str], *, as_json: bool) -> None:
    """Print what is suspicious in the data, and what they look like."""
    dataset = load(load_recipe(source, overrides).data)
    warnings, described = check(dataset), describe(dataset)
    if as_json:
        typer.echo(json.dumps({"warnings": warnings, "data": described}))
        return
    typer.echo(f"{dataset.name}: {dataset.kind} data, {dataset.source}")
    for warning in warnings or ["nothing suspicious"]:
        typer.echo(f"  {warning}")
    typer.echo(json.dumps(described, indent=2))


@contextmanager
def _listener(recipe: Recipe) -> Iterator[Listener]:
    with listening(Console(stderr=True), recipe.name, recipe.train.epochs) as listener:
        yield listener


def tell(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Print what runs of one recipe have made: a table, or one line of JSON."""
    if as_json:
        typer.echo(json.dumps(_summary(outcomes)))
    else:
        _print_outcomes(outcomes)


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    first = outcomes[0].as_json()
    if len(outcomes) == 1:
        return first
    values = [outcome.accuracy for outcome in outcomes]
    seeds = [outcome.as_json() for outcome in outcomes]
    return {**first, "accuracy_mean": statistics.mean(values), "seeds": seeds}


def _print_outcomes(outcomes: Sequence[Outcome]) -> None:
    table = _table("model", "accuracy", "macro F1", "training s")
    for outcome in outcomes:
        metrics = outcome.metrics
        training = metrics["training"]
        name = f"{training['recipe']}, seed {training['seed']}"
        accuracy, f1 = _interval(metrics["accuracy"]), _interval(metrics["macro"]["f1"])
        table.add_row(name, accuracy, f1, _number(training["seconds"], 1))
    for baseline in outcomes[0].metrics["baselines"]:
        accuracy, f1 = _number(baseline["accuracy"], 4), _number(baseline["f1_macro"], 4)
        table.add_row(baseline["name"], accuracy, f1, _number(baseline["seconds"], 1))
    _print(table)
    if len(outcomes) > 1:
        mean = statistics.mean(outcome.accuracy for outcome in outcomes)
        typer.echo(f"mean accuracy of {len(outcomes)} seeds: {mean:.4f}")
    typer.echo(f"published {outcomes[0].bundle.path}, report in {outcomes[0].folder}")


def _scores_table(name: str, scores: Scores) -> Table:
    table = _table(name, "precision", "recall", "F1", "rows")
    for one in scores.classes:
        cells = [_interval(i.as_json()) for i in (one.precision, one.recall, one.f1)]
        table.add_row(one.label, *cells, str(one.support))
    means = [_interval(i.as_json()) for i in (scores.precision, scores.recall, scores.f1)]
    table.add_row("mean over classes", *means, str(scores.rows))
    table.caption = f"accuracy {_interval(scores.accuracy.as_json())}"
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def _print(table: Table) -> None:
    Console(markup=False, highlight=False).print(table)


def _interval(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return "-"
    return f"{interval['value']:.4f} ({interval['low']:.3f} to {interval['high']:.3f})"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
