"""What `training.bundles` promises: published bundles are found, measured again and compared."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from service.bundle import publishing, read_bundle, seal
from service.errors import BundleError
from training.bundles import compare, evaluate_bundle, find_bundle, recipe_of
from training.data import DataError

from .tiny import Run


def test_a_bundle_is_named_by_its_folder_or_its_models(packed: Path, tmp_path: Path) -> None:
    """A model's folder stands for its highest version; what is no version is passed over."""
    model = tmp_path / "packed"
    for name in ("2", "10", "03", ".11.99.partial"):
        shutil.copytree(packed, model / name)
    (model / "12").mkdir()
    (model / "serving.toml").touch()
    assert find_bundle(model).path == model / "10"
    assert find_bundle(model / "2").path == model / "2"


@pytest.mark.parametrize("name", ["", "nowhere", "file"])
def test_what_holds_no_bundle_is_refused(tmp_path: Path, name: str) -> None:
    """The path is named."""
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="neither a bundle nor a folder with versions of one"):
        find_bundle(tmp_path / name)


def test_measuring_again_gives_the_figures_of_the_bundle(
    texts: Run, roots: dict[str, Path]
) -> None:
    """The data are where one says; the bundle knows only what they are called."""
    bundle = find_bundle(texts.bundle.parent)
    found = evaluate_bundle(bundle, str(roots["attention"])).as_json()
    metrics = bundle.report("metrics")
    assert metrics is not None
    for name in ("rows", "accuracy", "macro", "classes", "confusion", "calibration_error"):
        assert found[name] == metrics[name]
    with pytest.raises(DataError, match=r"texts\.jsonl: there is no such file"):
        evaluate_bundle(bundle)


def test_data_of_other_classes_are_refused(
    texts: Run, roots: dict[str, Path], tmp_path: Path
) -> None:
    """Figures on them would mean nothing."""
    bundle = read_bundle(texts.bundle)
    recipe = recipe_of(bundle)
    other = replace(recipe, data=replace(recipe.data, classes=("ham", "späm")))
    changed = tmp_path / "texts"
    with publishing(changed, 1) as folder:
        shutil.copytree(texts.bundle, folder, dirs_exist_ok=True)
        (folder / "bundle.json").unlink()
        (folder / "recipe.toml").write_text(other.to_toml(), encoding="utf-8")
        seal(folder, bundle.manifest, {})
    with pytest.raises(BundleError, match=r"its classes are \['späm', 'ham'\], those of .* are"):
        evaluate_bundle(find_bundle(changed), str(roots["attention"]))


def test_a_damaged_bundle_is_not_measured(
    texts: Run, roots: dict[str, Path], tmp_path: Path
) -> None:
    """Its hashes are checked first."""
    shutil.copytree(texts.bundle, tmp_path / "1")
    with (tmp_path / "1" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"model\.onnx: \d+ bytes, bundle\.json says"):
        evaluate_bundle(read_bundle(tmp_path / "1"), str(roots["attention"]))


def test_a_bundle_that_no_recipe_made_cannot_be_measured(packed: Path) -> None:
    """Its test split is not known."""
    with pytest.raises(BundleError, match=r"has no recipe\.toml, so its test split is not known"):
        evaluate_bundle(read_bundle(packed))


def test_bundles_are_compared_by_what_they_know(texts: Run, packed: Path) -> None:
    """In the order given; what a packed model never measured stays open."""
    bundles = [read_bundle(packed), read_bundle(texts.bundle)]
    first, second = compare(bundles)
    metrics = bundles[1].report("metrics")
    assert metrics is not None
    assert second.as_json() == {
        "bundle": "texts/1",
        "accuracy": metrics["accuracy"],
        "f1_macro": metrics["macro"]["f1"],
        "row_ms": metrics["latency"]["median_ms"],
        "model_bytes": metrics["model"]["bytes"],
        "training_seconds": metrics["training"]["seconds"],
    }
    assert (first.bundle, first.accuracy, first.f1, first.row_ms) == ("packed/1", None, None, None)
    assert first.model_bytes == (packed / "model.onnx").stat().st_size
