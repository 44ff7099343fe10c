"""One run from its recipe to a published bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from service.bundle import Bundle
from training.baselines import Baseline, run_baselines
from training.data import describe
from training.evaluate import evaluate_model
from training.export import Extras, Served, export_bundle
from training.learn import Learnt, learn
from training.machine import describe_machine
from training.networks import example_inputs, explanation
from training.progress import Listener
from training.raws import MEDIA_TYPES, golden_examples, to_raw
from training.recipe import Recipe
from training.report import Report, write_history, write_report
from training.runs import CHECKPOINTS, RECIPE_FILE
from training.task import Task, make_task, use_threads


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run made, and how good it is."""

    folder: Path
    bundle: Bundle
    metrics: Mapping[str, Any]

    @property
    def accuracy(self) -> float:
        """The accuracy on the test split."""
        return float(self.metrics["accuracy"]["value"])

    def as_json(self) -> dict[str, Any]:
        """Return what a script wants to know, as one object."""
        parity = self.bundle.report("parity") or {}
        return {
            "name": self.bundle.path.parent.name,
            "version": int(self.bundle.path.name),
            "bundle": str(self.bundle.path),
            "run": str(self.folder),
            "seed": self.metrics["training"]["seed"],
            "accuracy": self.metrics["accuracy"],
            "f1_macro": self.metrics["macro"]["f1"],
            "parity_max_abs": parity.get("max_abs"),
            "training_seconds": self.metrics["training"]["seconds"],
            "baselines": self.metrics["baselines"],
        }


def run_recipe(recipe: Recipe, folder: Path, repository: Path, listener: Listener) -> Outcome:
    """Train, export, evaluate and publish; continue where the folder's checkpoints end."""
    use_threads(recipe.train.threads)
    task = make_task(recipe)
    # The first figures come only after an epoch, and until then a log would look dead.
    listener.note(f"{len(task.dataset.train.labels)} examples, on {task.device}")
    learnt = learn(task, folder / CHECKPOINTS, listener)
    write_history(folder, learnt)
    return publish(task, learnt, folder, repository=repository, listener=listener)


def publish(
    task: Task, learnt: Learnt, folder: Path, *, repository: Path, listener: Listener
) -> Outcome:
    """Export the network, evaluate the exported file, and write the run's report."""
    baselines: list[Baseline] = []
    if task.recipe.train.baselines:
        baselines = run_baselines(task.dataset, seed=task.recipe.seed, started=listener.note)
    listener.note("exporting")
    measured = Measured(task, learnt, baselines)
    dataset = task.dataset
    bundle = export_bundle(
        Served(learnt.network),
        example_inputs(task.contract),
        task.contract,
        repository=repository,
        name=task.recipe.name,
        golden=[to_raw(example) for example in golden_examples(dataset)],
        media_type=MEDIA_TYPES[dataset.kind],
        extras=Extras(reports=measured, texts=measured.texts, explain=explanation(learnt.network)),
    )
    report = measured.report()
    write_report(folder, report)
    return Outcome(folder, bundle, report.metrics())


@dataclass(slots=True)
class Measured:
    """Evaluates the exported file as soon as the exporter has written it.

    ``texts`` is complete after that: the model card tells what was measured.
    """

    task: Task
    learnt: Learnt
    baselines: list[Baseline]
    texts: dict[str, str] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)

    def __call__(self, file: Path) -> dict[str, dict[str, Any]]:
        """Return the bundle's reports on this file."""
        recipe, dataset = self.task.recipe, self.task.dataset
        evaluation = evaluate_model(
            file,
            self.task.contract,
            map(to_raw, dataset.test.inputs),
            MEDIA_TYPES[dataset.kind],
            truth=dataset.test.labels,
        )
        report = Report(
            name=recipe.name,
            recipe=recipe.model.family,
            seed=recipe.seed,
            dataset=dataset,
            contract=self.task.contract,
            learnt=self.learnt,
            evaluation=evaluation,
            baselines=self.baselines,
            machine=describe_machine(self.task.device),
        )
        self.reports.append(report)
        self.texts[RECIPE_FILE] = travelling(recipe).to_toml()
        self.texts["model_card.md"] = report.card()
        return {"metrics": report.metrics(), "data_stats": describe(dataset)}

    def report(self) -> Report:
        """Return the report on the exported file."""
        return self.reports[-1]


def travelling(recipe: Recipe) -> Recipe:
    """Return the recipe as a bundle carries it: without the path to the data on this machine."""
    root = PurePath(recipe.data.root).name
    return replace(recipe, data=replace(recipe.data, root=root))
