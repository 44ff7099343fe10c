"""What ``export precision=`` promises: a bundle that serves and says what it is, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.bundle import Bundle, read_bundle
from service.golden import load as load_golden
from service.loader import LoadOptions, load_model
from service.repository import Found
from training.data import split
from training.lower import deciding_rows
from training.task import make_task

from .tiny import TRAIN, Run, say, tiny_recipe, write_recipe

LSTM = ("model.cell=lstm", "model.hidden=8", "train.epochs=12")
WIDE = ("model.width=8", "model.tokens.buckets=512")


@pytest.fixture(scope="module")
def lstm(roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of a small LSTM that has learnt its series."""
    return trained(tmp_path_factory.mktemp("lstm"), "rnn", roots["rnn"], *LSTM) / "series" / "1"


@pytest.fixture(scope="module")
def attention(roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of a small attention network."""
    folder = tmp_path_factory.mktemp("attention")
    return trained(folder, "attention", roots["attention"], *WIDE) / "texts" / "1"


@pytest.fixture(scope="module")
def halved(pictures: Run, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle in half precision, made from a run."""
    target = tmp_path_factory.mktemp("halved")
    said = say("export", pictures.folder, "precision=fp16", "margin=1", "--repository", target)
    assert said.code == 0, said.err
    return read_bundle(target / "pictures" / "1")


def trained(folder: Path, family: str, root: Path, *changes: str) -> Path:
    """Train and return the repository."""
    recipe = write_recipe(folder, family, root, *changes)
    said = say(recipe, "--repository", folder / "models", "--runs", folder / "runs")
    assert said.code == 0, said.err
    return folder / "models"


def served(bundle: Bundle) -> dict[str, object]:
    """Return the model-info of the bundle once a server has proved it."""
    found = Found(bundle.path.parent.name, int(bundle.path.name), bundle.path)
    loaded = load_model(found, LoadOptions(), lambda _: None)
    loaded.engine.close()
    return loaded.info


def test_an_lstm_in_8_bits_serves_alone(lstm: Path, roots: dict[str, Path]) -> None:
    """As the next version, proved by its own answers, its rows never run together."""
    before = read_bundle(lstm)
    said = say(
        *("export", lstm, "precision=int8", "margin=0.2", "--data", roots["rnn"]),
        *("--repository", lstm.parent.parent, "--output", "json"),
    )
    record, bundle = said.json(), read_bundle(lstm.parent / "2")
    assert record["bundle"] == str(bundle.path)
    assert record["made_of"] == before.manifest.files["model.onnx"].model_dump()
    assert record["bytes"] < record["made_of"]["bytes"]
    assert record["speed"]["speedup_alone"] > 0
    assert (record["precision"], record["rows_independent"]) == ("int8", False)
    assert not bundle.manifest.batchable
    assert bundle.manifest.answer.atol == 2e-3
    info = served(bundle)
    proof = info["verification"]
    assert isinstance(proof, dict)
    assert (proof["status"], proof["batch_sizes"]) == ("passed", [1])
    assert info["precision"] == {key: record[key] for key in record if key != "bundle"}
    for kept in ("recipe.toml", "data_stats.json"):
        assert bundle.read(kept) == before.read(kept)


def test_tables_in_8_bits_serve_together(attention: Path, roots: dict[str, Path]) -> None:
    """The contract is what it was, tolerances and all."""
    said = say(
        *("export", attention, "precision=int8", "rows=together", "margin=1"),
        *("--data", roots["attention"], "--repository", attention.parent.parent),
    )
    assert said.code == 0, said.err
    before, bundle = read_bundle(attention), read_bundle(attention.parent / "2")
    assert said.out.splitlines()[-1] == f"published {bundle.path}"
    assert "times as fast" in said.out
    assert "runs by itself" not in said.out
    assert bundle.manifest.outputs == before.manifest.outputs
    assert bundle.manifest.batchable
    proof = served(bundle)["verification"]
    assert isinstance(proof, dict)
    assert proof["batch_sizes"] == [1, 2, 32]


def test_half_precision_is_made_from_a_run(pictures: Run, halved: Bundle) -> None:
    """The figures of training and the explanation travel; the FP32 file is that of the run."""
    metrics, record = halved.report("metrics"), halved.report("precision")
    assert metrics is not None
    assert record is not None
    told = json.loads((pictures.folder / "metrics.json").read_text())
    assert metrics["training"] == told["training"]
    assert metrics["model"]["bytes"] == record["bytes"] == halved.manifest.files["model.onnx"].bytes
    assert (record["speed"], record["weights_converted"]) == (None, 1.0)
    origin = read_bundle(pictures.bundle)
    assert record["made_of"] == origin.manifest.files["model.onnx"].model_dump()
    assert halved.read("recipe.toml") == origin.read("recipe.toml")
    assert "explain/explain.onnx" in halved.manifest.files
    proof = served(halved)["verification"]
    assert isinstance(proof, dict)
    assert proof["status"] == "passed"


def test_the_card_tells_both_precisions(pictures: Run, halved: Bundle) -> None:
    """And after them what the FP32 model's card told."""
    card = halved.read("model_card.md").decode()
    assert card.startswith("# pictures, fp16\n")
    assert "| accuracy on the test rows |" in card
    assert "It is made for a GPU" in card
    origin = (pictures.folder / "model_card.md").read_text(encoding="utf-8")
    assert f"\n#{origin.splitlines()[0]}\n" in card


def test_golden_answers_are_those_of_the_precision(lstm: Path, roots: dict[str, Path]) -> None:
    """Not of FP32, which differ; every class is among them."""
    target = lstm.parent.parent.parent / "golden"
    said = say(
        *("export", lstm, "precision=int8", "margin=0.2", "--data", roots["rnn"]),
        *("--repository", target),
    )
    assert said.code == 0, said.err
    bundle = read_bundle(target / "series" / "1")
    golden = load_golden(bundle.read("golden.npz"))
    answers = np.stack(golden.expected["probabilities"])
    assert len(golden) == 16
    assert set(answers.argmax(1).tolist()) == {0, 1}
    before = load_golden(read_bundle(lstm).read("golden.npz"))
    recorded = dict(zip(before.raws, before.expected["probabilities"], strict=True))
    shared = [
        (a, recorded[raw]) for raw, a in zip(golden.raws, answers, strict=True) if raw in recorded
    ]
    assert shared
    assert any(not np.array_equal(after, fp32) for after, fp32 in shared)


def test_a_gate_that_fails_publishes_nothing(lstm: Path, roots: dict[str, Path]) -> None:
    """The figures are told."""
    target = lstm.parent.parent.parent / "refused"
    said = say(
        *("export", lstm, "precision=int8", "speedup=1000", "--data", roots["rnn"]),
        *("--repository", target, "--output", "json"),
    )
    assert (said.code, said.out) == (1, "")
    assert "times as fast, speedup=1000 is demanded" in said.err
    assert list((target / "series").iterdir()) == []


def test_a_bundle_cannot_be_halved(pictures: Run, roots: dict[str, Path], tmp_path: Path) -> None:
    """It holds a graph, and converters are not trusted; the run would do."""
    said = say(
        *("export", pictures.bundle, "precision=fp16", "--data", roots["cnn"]),
        *("--repository", tmp_path),
    )
    assert said.code == 1
    assert "give the folder of the run, whose checkpoints hold it" in said.err


def test_a_lower_precision_is_not_lowered_again(lstm: Path, roots: dict[str, Path]) -> None:
    """Its errors would add up unseen."""
    target = lstm.parent.parent.parent / "twice"
    place = ("--data", roots["rnn"], "--repository", target)
    assert say("export", lstm, "precision=int8", "margin=0.2", *place).code == 0
    said = say("export", target / "series", "precision=int8", *place)
    assert said.code == 2
    assert "is int8 itself" in said.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("precision=int4", "precision is 'int4': must be 'fp16' or 'int8'"),
        ("margin=0.1", "precision: missing"),
        ("margins=0.1", "'margins': no such key"),
        ("precision", "an override is written key=value"),
    ],
)
def test_a_wrong_wish_is_refused(lstm: Path, tmp_path: Path, change: str, message: str) -> None:
    """With what there is."""
    said = say("export", lstm, change, "--repository", tmp_path)
    assert said.code == 2
    assert message in said.err


def test_the_rows_that_decide_were_not_trained_on(roots: dict[str, Path]) -> None:
    """The validation rows, or the test rows of a recipe that holds none back."""
    held = make_task(tiny_recipe("cnn", roots["cnn"]))
    name, rows = deciding_rows(held.recipe, held.dataset)
    assert (name, len(rows)) == ("validation", TRAIN // 2)
    kept = split(held.dataset.train, 0.25, held.recipe.seed)[1]
    assert np.array_equal(np.asarray(rows.inputs), np.asarray(kept.inputs))
    whole = make_task(tiny_recipe("rnn", roots["rnn"]))
    assert deciding_rows(whole.recipe, whole.dataset) == ("test", whole.dataset.test)
