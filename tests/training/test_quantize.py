"""What `training.quantize` promises, on graphs that it is made for and others."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import onnx
import pytest

from service.contract import Contract
from training.export import Served, Tupled, open_graph, save_graph
from training.networks import example_inputs
from training.parity import ExportError, measure
from training.quantize import EVERYTHING, TABLES, quantize
from training.task import make_task

from .tiny import tiny_recipe


def graph_of(roots: dict[str, Path], folder: Path, family: str, *changes: str) -> Contract:
    """Write an untrained network as ``fp32.onnx`` and return its contract."""
    task = make_task(tiny_recipe(family, roots[family], *changes))
    network = Tupled(Served(task.build())).eval()
    save_graph(network, example_inputs(task.contract), task.contract, folder / "fp32.onnx")
    return task.contract


def operators(file: Path) -> Counter[str]:
    """Return the operators of a file."""
    return Counter(node.op_type for node in onnx.load(str(file)).graph.node)


def test_an_lstm_is_converted(roots: dict[str, Path], tmp_path: Path) -> None:
    """Its weights are folded into plain ones first; names, axes and lengths stay as promised."""
    contract = graph_of(roots, tmp_path, "rnn", "model.cell=lstm", "model.hidden=16")
    share = quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", contract, EVERYTHING)
    assert share > 0.9
    assert operators(tmp_path / "int8.onnx")["DynamicQuantizeLSTM"] == 1
    before, after = (open_graph(tmp_path / f"{name}.onnx") for name in ("fp32", "int8"))
    found = measure(before, after, contract, tolerance=math.inf)
    assert 0 < found.max_abs < 0.05
    assert found.row_alone > 1e-5
    assert found.as_json()["status"] == "measured"


def test_a_table_of_embeddings_keeps_rows_independent(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    """With it alone converted, a row among others is the same row alone."""
    changes = ("model.width=8", "model.tokens.buckets=512")
    contract = graph_of(roots, tmp_path, "attention", *changes)
    for name, kinds in (("all", EVERYTHING), ("tables", TABLES)):
        quantize(tmp_path / "fp32.onnx", tmp_path / f"{name}.onnx", contract, kinds)
    assert operators(tmp_path / "all.onnx")["MatMulInteger"] > 0
    assert operators(tmp_path / "tables.onnx")["MatMulInteger"] == 0
    graphs = {n: open_graph(tmp_path / f"{n}.onnx") for n in ("fp32", "all", "tables")}
    alone = {
        name: measure(graphs["fp32"], graphs[name], contract, tolerance=math.inf).row_alone
        for name in ("all", "tables")
    }
    assert alone["tables"] <= 1e-5 < alone["all"]


def test_nothing_of_the_machine_travels(roots: dict[str, Path], tmp_path: Path) -> None:
    """Neither the quantizer's name nor its notes on nodes."""
    contract = graph_of(roots, tmp_path, "attention", "model.tokens.buckets=512")
    quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", contract, EVERYTHING)
    model = onnx.load(str(tmp_path / "int8.onnx"))
    assert model.producer_name == "onnxport"
    assert not model.metadata_props
    assert not any(node.doc_string for node in model.graph.node)


@pytest.mark.parametrize(
    ("family", "changes", "kinds", "reason"),
    [
        ("cnn", (), EVERYTHING, "convolutions; ONNX Runtime runs dynamic 8-bit convolutions about"),
        ("rnn", (), EVERYTHING, "GRU has no dynamic 8-bit form, LSTM has (model.cell=lstm)"),
        (
            "rnn",
            ("model.cell=tanh", "model.hidden=16"),
            EVERYTHING,
            "Scan has no dynamic 8-bit form",
        ),
        ("rnn", ("model.cell=lstm",), TABLES, "with rows=together only tables of embeddings"),
    ],
)
def test_what_gains_nothing_is_refused(
    roots: dict[str, Path],
    tmp_path: Path,
    family: str,
    changes: tuple[str, ...],
    kinds: tuple[str, ...],
    reason: str,
) -> None:
    """With the reason, and with what would do where something would."""
    contract = graph_of(roots, tmp_path, family, *changes)
    with pytest.raises(ExportError) as refused:
        quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", contract, kinds)
    assert reason in str(refused.value)
