"""What has been published: found by path, measured again, compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.bundle import Bundle, is_bundle, is_version, read_bundle
from service.contract import MODEL_FILE
from service.errors import BundleError
from training.data import DataSet, load
from training.evaluate import Evaluation, evaluate_model
from training.raws import MEDIA_TYPES, to_raw
from training.recipe import Recipe, parse_recipe
from training.runs import RECIPE_FILE


@dataclass(frozen=True, slots=True)
class Compared:
    """One bundle's row in a comparison; what its metrics do not tell is None."""

    bundle: str
    accuracy: dict[str, float] | None
    f1: dict[str, float] | None
    row_ms: float | None
    model_bytes: int
    training_seconds: float | None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "bundle": self.bundle,
            "accuracy": self.accuracy,
            "f1_macro": self.f1,
            "row_ms": self.row_ms,
            "model_bytes": self.model_bytes,
            "training_seconds": self.training_seconds,
        }


def find_bundle(path: Path) -> Bundle:
    """Return the bundle in this folder, or the highest version in a model's folder."""
    if is_bundle(path):
        return read_bundle(path)
    versions = [one for one in path.iterdir() if is_version(one.name)] if path.is_dir() else []
    bundles = [one for one in versions if is_bundle(one)]
    if not bundles:
        raise BundleError(f"{path}: neither a bundle nor a folder with versions of one")
    return read_bundle(max(bundles, key=lambda one: int(one.name)))


def recipe_of(bundle: Bundle) -> Recipe:
    """Return the recipe that made the bundle; raise BundleError if it was not made by one."""
    if RECIPE_FILE not in bundle.manifest.files:
        raise BundleError(f"{bundle.path}: has no {RECIPE_FILE}, so its test split is not known")
    text = bundle.read(RECIPE_FILE).decode()
    return parse_recipe(text, where=f"{bundle.path / RECIPE_FILE}")


def evaluate_bundle(bundle: Bundle, root: str = "") -> Evaluation:
    """Measure a bundle again on the test split of its recipe's data; ``root`` says where they lie.

    Raises BundleError if the data have other classes than the bundle.
    """
    bundle.verify_files()
    dataset = load_for(bundle, root)
    return evaluate_model(
        bundle.path / MODEL_FILE,
        bundle.manifest,
        map(to_raw, dataset.test.inputs),
        MEDIA_TYPES[dataset.kind],
        truth=dataset.test.labels,
    )


def load_for(bundle: Bundle, root: str = "") -> DataSet:
    """Return the data of the bundle's recipe; raise BundleError if they have other classes."""
    recipe = recipe_of(bundle)
    dataset = load(replace(recipe.data, root=root or recipe.data.root))
    _require_same_classes(bundle, dataset)
    return dataset


def _require_same_classes(bundle: Bundle, dataset: DataSet) -> None:
    labels = bundle.manifest.labels
    if labels != list(dataset.classes):
        raise BundleError(
            f"{bundle.path}: its classes are {labels}, those of {dataset.name} "
            f"are {list(dataset.classes)}"
        )


def compare(bundles: Sequence[Bundle]) -> list[Compared]:
    """Return what each bundle's metrics say, in the order given."""
    return [_compared(bundle) for bundle in bundles]


def _compared(bundle: Bundle) -> Compared:
    metrics = bundle.report("metrics") or {}
    return Compared(
        bundle=f"{bundle.path.parent.name}/{bundle.path.name}",
        accuracy=metrics.get("accuracy"),
        f1=metrics.get("macro", {}).get("f1"),
        row_ms=metrics.get("latency", {}).get("median_ms"),
        model_bytes=bundle.manifest.files[MODEL_FILE].bytes,
        training_seconds=metrics.get("training", {}).get("seconds"),
    )
