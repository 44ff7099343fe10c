"""From an FP32 bundle to one of a lower precision, published only past the quality gate."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from torch import nn

from service.bundle import GOLDEN_FILE, Bundle, next_version, publishing, read_bundle, seal
from service.contract import MODEL_FILE, Contract
from service.golden import MIN_VECTORS
from service.golden import dump as dump_golden
from service.pipeline import Pipeline, Row, make_pipeline
from training.binding import RecipeError
from training.bundles import find_bundle, load_for, recipe_of
from training.card import lower_card
from training.data import DataSet, Examples, split
from training.evaluate import Evaluation, answer, evaluate_model, open_session
from training.export import Served, Tupled, open_graph, producer, record, save_graph, write_texts
from training.gate import (
    Demand,
    Difference,
    Gain,
    Speed,
    check,
    clearest,
    difference,
    lower_contract,
)
from training.halve import Halved, fits_half
from training.learn import learn
from training.networks import example_inputs
from training.parity import ExportError, Parity, measure
from training.progress import Listener
from training.quantize import EVERYTHING, TABLES, quantize
from training.raws import MEDIA_TYPES, golden_examples, to_raw
from training.recipe import Recipe, load_recipe
from training.run import publish, travelling
from training.runs import CHECKPOINTS, METRICS_FILE, RECIPE_FILE
from training.task import make_task, use_threads
from training.timing import TIMED_ROWS, measure_gain
from training.trial import try_apart

Json = dict[str, Any]
_KEPT = ("data_stats.json", "explain")
CARD_FILE = "model_card.md"


@dataclass(frozen=True, slots=True)
class Base:
    """What is converted: a proven FP32 bundle, its data, and the network if there is one.

    ``metrics`` and ``card`` tell how the network was trained and how good it is in FP32.
    """

    bundle: Bundle
    recipe: Recipe
    dataset: DataSet
    metrics: Json
    card: str
    network: nn.Module | None = None

    @property
    def contract(self) -> Contract:
        """What the bundle promises."""
        manifest = self.bundle.manifest
        return Contract(**{name: getattr(manifest, name) for name in Contract.model_fields})


@dataclass(frozen=True, slots=True)
class Lowered:
    """What was published, and the content of its ``precision.json``."""

    bundle: Bundle
    record: Json


@dataclass(frozen=True, slots=True)
class _Judged:
    """A converted file that has passed the gate, with all that was measured."""

    contract: Contract
    parity: Parity
    found: Difference
    gain: Gain | None
    evaluation: Evaluation
    weights: float


def base_of_bundle(path: Path, root: str = "") -> Base:
    """Return a bundle as it was published; ``root`` says where its data lie."""
    bundle = find_bundle(path)
    precision = bundle.report("precision")
    if precision is not None:
        raise RecipeError(f"{bundle.path}: is {precision.get('precision')} itself, give the FP32")
    bundle.verify_files()
    metrics = bundle.report("metrics") or {}
    card = _text(bundle.path / CARD_FILE)
    return Base(bundle, recipe_of(bundle), load_for(bundle, root), metrics, card)


def base_of_run(folder: Path, scratch: Path, listener: Listener) -> Base:
    """Return what the best checkpoint of a finished run gives, as a bundle below ``scratch``.

    The run's folder stays as it is, and what it says of the simpler methods is not found out again.
    """
    recipe = load_recipe(str(folder))
    use_threads(recipe.train.threads)
    task = make_task(replace(recipe, train=replace(recipe.train, baselines=False)))
    learnt = learn(task, folder / CHECKPOINTS, listener)
    outcome = publish(task, learnt, scratch / "report", repository=scratch, listener=listener)
    metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    card = _text(folder / CARD_FILE)
    return Base(outcome.bundle, recipe, task.dataset, metrics, card, learnt.network)


def export_lower(base: Base, demand: Demand, repository: Path, listener: Listener) -> Lowered:
    """Publish the base in a lower precision as a new version of its model.

    Raises ExportError, with the figures, where the file cannot be made or run, or where it does not
    keep what is demanded; nothing is published then.
    """
    name = base.bundle.path.parent.name
    number = next_version(repository / name)
    with publishing(repository / name, number) as folder:
        file = folder / MODEL_FILE
        listener.note(f"converting to {demand.precision}")
        weights = _convert(base, demand, file)
        listener.note("judging it")
        judged = _judge(base, demand, file, weights)
        record = _record(base, demand, judged)
        _write(base, folder, judged, record)
        seal(folder, judged.contract, producer())
    return Lowered(read_bundle(repository / name / str(number)), record)


def _convert(base: Base, demand: Demand, file: Path) -> float:
    """Write the converted graph, run it once apart; return the share of its weights converted."""
    contract = base.contract
    example = example_inputs(contract)
    if demand.precision == "int8":
        operators = EVERYTHING if demand.rows == "alone" else TABLES
        weights = quantize(base.bundle.path / MODEL_FILE, file, contract, operators)
    else:
        save_graph(_halved(base), example, contract, file)
        weights = 1.0
    names = [tensor.name for tensor in contract.inputs]
    try_apart(file, {n: value.numpy() for n, value in zip(names, example, strict=True)})
    return weights


def _halved(base: Base) -> nn.Module:
    if base.network is None:
        raise ExportError(
            f"fp16: {base.bundle.path} holds a graph, and only the network itself is halved; give "
            "the folder of the run, whose checkpoints hold it"
        )
    weight = fits_half(base.network)
    if weight:
        raise ExportError(f"fp16: '{weight}' holds a number beyond 65504, which FP16 cannot hold")
    return Tupled(Served(Halved(base.network))).eval()


def _judge(base: Base, demand: Demand, file: Path, weights: float) -> _Judged:
    source = base.bundle.path / MODEL_FILE
    parity = measure(open_graph(source), open_graph(file), base.contract, tolerance=math.inf)
    parity = replace(parity, against="the FP32 graph of the same network")
    contract = lower_contract(base.contract, demand, parity.row_alone)
    name, held = deciding_rows(base.recipe, base.dataset)
    pipeline = make_pipeline(contract)
    rows = _rows(pipeline, base.dataset, held)
    before = answer(open_session(source), base.contract, pipeline, rows)
    after = answer(open_session(file), contract, pipeline, rows)
    found = difference(name, before, after, held.labels)
    # What FP16 costs a CPU says nothing about a GPU.
    gain = None
    if demand.precision == "int8":
        gain = measure_gain((source, base.contract), (file, contract), rows[:TIMED_ROWS])
    check(demand, found, gain)
    test = base.dataset.test
    evaluation = evaluate_model(
        file,
        contract,
        map(to_raw, test.inputs),
        MEDIA_TYPES[base.dataset.kind],
        truth=test.labels,
    )
    return _Judged(contract, parity, found, gain, evaluation, weights)


def deciding_rows(recipe: Recipe, dataset: DataSet) -> tuple[str, Examples]:
    """Return the rows that the gate looks at, with the name of their split.

    They are the recipe's validation rows.  A recipe that holds none back has trained on all of
    them, so there only the test rows are unseen.
    """
    if not recipe.train.validation:
        return "test", dataset.test
    return "validation", split(dataset.train, recipe.train.validation, recipe.seed)[1]


def _rows(pipeline: Pipeline, dataset: DataSet, examples: Examples) -> list[Row]:
    media_type = MEDIA_TYPES[dataset.kind]
    return [pipeline.decode(to_raw(example), media_type) for example in examples.inputs]


def _record(base: Base, demand: Demand, judged: _Judged) -> Json:
    source = base.bundle.manifest.files[MODEL_FILE]
    return {
        "precision": demand.precision,
        "made_of": source.model_dump(),
        "bytes": judged.evaluation.model_bytes,
        "weights_converted": round(judged.weights, 4),
        "rows_independent": judged.contract.batchable,
        "demanded": {"margin": demand.margin, "speedup": demand.speedup, "rows": demand.rows},
        "gate": {"status": "passed", **asdict(judged.found)},
        "measured_on": f"the serving pipeline, ONNX Runtime {ort.__version__}, CPU, one thread",
        "speed": None if judged.gain is None else _speeds(judged.gain),
        "random_inputs": {
            "max_abs": judged.parity.max_abs,
            "row_alone_max_abs": judged.parity.row_alone,
        },
    }


def _speeds(gain: Gain) -> Json:
    return {
        "unit": "milliseconds of processor time a row",
        "fp32": _milliseconds(gain.fp32),
        "lower": _milliseconds(gain.lower),
        "speedup_alone": round(gain.alone, 3),
        "speedup_served": round(gain.served, 3),
    }


def _milliseconds(speed: Speed) -> Json:
    together = None if speed.together_ms is None else round(speed.together_ms, 4)
    return {
        "alone_ms": round(speed.alone_ms, 4),
        "together_ms": together,
        "served_ms": round(speed.served_ms, 4),
    }


def _write(base: Base, folder: Path, judged: _Judged, record: Json) -> None:
    golden = _golden(base, folder / MODEL_FILE, judged.contract)
    (folder / GOLDEN_FILE).write_bytes(golden)
    before = base.metrics
    metrics = judged.evaluation.as_json()
    metrics |= {key: before[key] for key in ("training", "baselines") if key in before}
    metrics["model"] = {**before.get("model", {}), **metrics["model"]}
    reports = {"metrics": metrics, "parity": judged.parity.as_json(), "precision": record}
    card = lower_card(base.bundle.path.parent.name, record, metrics, before, base.card)
    texts = {CARD_FILE: card, RECIPE_FILE: travelling(base.recipe).to_toml()}
    write_texts(folder, reports, texts)
    for name in _KEPT:
        source = base.bundle.path / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.is_file():
            shutil.copyfile(source, folder / name)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _golden(base: Base, file: Path, contract: Contract) -> bytes:
    """Return the file's own answers to examples of every class, clear ones first."""
    count = max(MIN_VECTORS, len(base.dataset.classes))
    examples = golden_examples(base.dataset, count=2 * count)
    pipeline, media_type = make_pipeline(contract), MEDIA_TYPES[base.dataset.kind]
    raws = [to_raw(example) for example in examples]
    rows = [pipeline.decode(raw, media_type) for raw in raws]
    answers = answer(open_session(file), contract, pipeline, rows)
    kept = clearest(np.asarray(answers), count, 2 * contract.answer.atol)
    vectors = record(open_graph(file), contract, [raws[i] for i in kept], media_type)
    return dump_golden(vectors)
