"""What a whole run promises: a bundle that serves, figures that hold, a folder that tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from service.answers import answers
from service.bundle import Bundle, read_bundle
from service.golden import load as load_golden
from service.loader import Loaded, LoadOptions, load_model
from service.repository import Found
from training.data import load
from training.raws import MEDIA_TYPES, to_raw
from training.recipe import load_recipe, parse_recipe

from .tiny import TEST, TRAIN, Run, Workshop

RUNS = ("pictures", "series", "texts", "article")
LENGTHS: dict[str, tuple[int | None, ...]] = {
    "pictures": (None,),
    "article": (None,),
    "series": (1, 7, 32),
    "texts": (1, 7, 16),
}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Run:
    """Return the run of each family."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Run)
    return found


@pytest.fixture
def bundle(run: Run) -> Bundle:
    """Return what the run has published."""
    return read_bundle(run.bundle)


@pytest.fixture
def served(run: Run) -> Iterator[Loaded]:
    """Return the bundle as a server has it once it has proved itself."""
    found = Found(run.bundle.parent.name, 1, run.bundle)
    loaded = load_model(found, LoadOptions(), lambda _: None)
    yield loaded
    loaded.engine.close()


def ask(served: Loaded, raw: bytes, media_type: str) -> dict[str, Any]:
    """Return the server's answer to one raw input."""
    inputs = served.pipeline.collate([served.pipeline.decode(raw, media_type)])
    outputs = served.engine.run(inputs, [served.contract.answer.name])
    answer = answers(served.contract, outputs, 1)[0]
    assert isinstance(answer, dict)
    return answer


def test_the_bundle_proves_itself_to_the_server(served: Loaded) -> None:
    """Hashes, tensors and golden vectors hold, at every batch size."""
    proof = served.info["verification"]
    assert isinstance(proof, dict)
    assert (proof["status"], proof["vectors"]) == ("passed", 16)


def test_the_figures_are_those_that_a_client_would_count(run: Run, served: Loaded) -> None:
    """Every test row is sent to the server, and the share of right answers is the accuracy."""
    dataset = load(load_recipe(str(run.folder)).data)
    classes, media_type = dataset.classes, MEDIA_TYPES[dataset.kind]
    asked = [ask(served, to_raw(example), media_type) for example in dataset.test.inputs]
    counts = np.zeros((2, 2), int)
    for label, answer in zip(dataset.test.labels.tolist(), asked, strict=True):
        counts[label, classes.index(answer["label"])] += 1
    metrics = served.info["evaluation"]
    assert isinstance(metrics, dict)
    assert metrics["rows"] == counts.sum() == 2 * TEST
    assert metrics["confusion"] == counts.tolist()
    assert metrics["accuracy"]["value"] == pytest.approx(np.trace(counts) / (2 * TEST))
    assert all(sum(answer["scores"].values()) == pytest.approx(1) for answer in asked)


def test_the_graph_equals_the_network_at_every_size(run: Run, bundle: Bundle) -> None:
    """To 1e-5, over batches and lengths, and rows are independent."""
    parity = bundle.report("parity")
    assert parity is not None
    cases = [(case["length"], case["batch"]) for case in parity["cases"]]
    lengths = LENGTHS[run.bundle.parent.name]
    assert cases == [(length, batch) for length in lengths for batch in (1, 2, 7, 64)]
    assert parity["max_abs"] <= 1e-5
    assert parity["row_alone_max_abs"] <= 1e-5


def test_the_bundle_holds_all_that_is_promised(run: Run, bundle: Bundle) -> None:
    """The model with its proof, figures, data and recipe; maps where the network has them."""
    bundle.verify_files()
    always = {"model.onnx", "golden.npz", "parity.json", "metrics.json", "data_stats.json"}
    always |= {"recipe.toml", "model_card.md"}
    explained = {"explain/explain.onnx"} if run.bundle.parent.name == "pictures" else set()
    assert set(bundle.manifest.files) == always | explained


def test_golden_vectors_are_of_every_class(run: Run, bundle: Bundle) -> None:
    """In turn, so that none outweighs the others."""
    golden = load_golden(bundle.read("golden.npz"))
    dataset = load(load_recipe(str(run.folder)).data)
    known = {
        to_raw(example): label
        for part in (dataset.train, dataset.test)
        for example, label in zip(part.inputs, part.labels.tolist(), strict=True)
    }
    assert [known[raw] for raw in golden.raws] == [0, 1] * 8


def test_the_bundle_knows_its_recipe_but_not_the_machine(
    run: Run, bundle: Bundle, roots: dict[str, Path]
) -> None:
    """The recipe travels with the name of the data's folder, and no file holds a path."""
    recipe = load_recipe(str(run.folder))
    travelled = parse_recipe(bundle.read("recipe.toml").decode())
    assert travelled.data.root == Path(recipe.data.root).name
    assert (travelled.model, travelled.train, travelled.seed) == (
        recipe.model,
        recipe.train,
        recipe.seed,
    )
    for place in (run.folder.parent, roots["cnn"].parent, Path.cwd()):
        for name in bundle.manifest.files:
            assert str(place).encode() not in bundle.read(name)


def test_the_folder_tells_the_whole_run(run: Run, bundle: Bundle) -> None:
    """Recipe, history, figures, plots, card and checkpoints, and nothing half written."""
    files = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    checkpoints = {name for name in files if name.startswith("checkpoints/")}
    files = {name for name in files if not name.startswith("models/")}
    assert files - checkpoints == {
        "recipe.toml",
        "history.json",
        "metrics.json",
        "model_card.md",
        "plots/curves.png",
        "plots/confusion.png",
        "plots/errors.png",
    }
    assert len(checkpoints) == (3 if run.bundle.parent.name == "texts" else 1)
    assert all(name.endswith(".safetensors") for name in checkpoints)
    assert json.loads((run.folder / "metrics.json").read_text()) == bundle.report("metrics")
    assert (run.folder / "model_card.md").read_bytes() == bundle.read("model_card.md")


def test_the_history_tells_every_epoch(run: Run) -> None:
    """Also those before a stop."""
    recipe = load_recipe(str(run.folder))
    history = json.loads((run.folder / "history.json").read_text())
    assert len(history["epochs"]) == recipe.train.epochs
    assert 1 <= history["kept_epoch"] <= recipe.train.epochs
    for epoch in history["epochs"]:
        assert 0 <= epoch["train_accuracy"] <= 1
        assert ("validation_loss" in epoch) is bool(recipe.train.validation)


def test_metrics_tell_what_was_trained(run: Run, bundle: Bundle) -> None:
    """With which seed, on how many rows, and on what."""
    metrics, stats = bundle.report("metrics"), bundle.report("data_stats")
    assert metrics is not None
    assert stats is not None
    recipe = load_recipe(str(run.folder))
    training = metrics["training"]
    assert (training["recipe"], training["seed"]) == (recipe.model.family, recipe.seed)
    assert training["rows"] == stats["splits"]["train"]["rows"] == 2 * TRAIN
    assert training["epochs"] == recipe.train.epochs
    assert "ONNX Runtime" in metrics["measured_on"]
    assert metrics["model"]["bytes"] == bundle.manifest.files["model.onnx"].bytes
    assert len(metrics["baselines"]) == (2 if recipe.train.baselines else 0)


def test_the_maps_explain_the_served_answers(pictures: Run) -> None:
    """The mean of a class's map and a constant a class are the logits behind the probabilities."""
    sessions = [
        ort.InferenceSession(str(pictures.bundle / name), providers=["CPUExecutionProvider"])
        for name in ("model.onnx", "explain/explain.onnx")
    ]
    image = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)
    probabilities, maps = (session.run(None, {"image": image})[0] for session in sessions)
    assert sessions[1].get_outputs()[0].name == "maps"
    assert maps.shape == (5, 2, 2, 2)
    means = maps.mean((2, 3))
    log_odds = np.log(probabilities[:, 0] / probabilities[:, 1])
    constants = log_odds - (means[:, 0] - means[:, 1])
    np.testing.assert_allclose(constants, constants[0], atol=1e-4)
    assert np.ptp(log_odds) > 1e-4


def test_biases_of_calibration_are_in_the_served_graph(texts: Run) -> None:
    """What was measured on held-out rows is what answers."""
    bundle = read_bundle(texts.bundle)
    assert bundle.manifest.outputs[1].auxiliary
    names = [file.name for file in (texts.folder / "checkpoints").iterdir()]
    assert sorted(names) == ["fold-1.safetensors", "fold-2.safetensors", "last.safetensors"]
    assert b"bias" in bundle.read("model.onnx")


def test_nothing_but_bundles_is_in_the_repository(workshop: Workshop, run: Run) -> None:
    """A server may look at any moment: no hidden folder is left behind."""
    assert run.bundle.is_dir()
    assert [p for p in workshop.repository.rglob(".*") if p.name.endswith(".partial")] == []
