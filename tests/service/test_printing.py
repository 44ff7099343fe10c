"""What is written to a terminal: nothing that could steer it, and no more than fits a reader."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto, helper

from service.inspection import inspect_path
from service.printing import answer_line, proof_line, write_json, write_report
from tests.support import models

SCORES = {"cat": 0.125, "dog": 0.5, "owl": 0.25, "yak": 0.0625}


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the terminal be wide enough that no line is broken."""
    monkeypatch.setenv("COLUMNS", "300")


def written(capsys: pytest.CaptureFixture[str], path: Path) -> str:
    """Return what is written about a path."""
    write_report(inspect_path(path))
    return capsys.readouterr().out


def test_a_classifier_s_answer_is_its_best_labels() -> None:
    """The label, its score, and what came next, at most three of them."""
    answer = {"label": "dog", "score": np.float32(0.5), "scores": SCORES}
    assert answer_line("a.png", answer) == "a.png: dog 0.5000  (then owl 0.2500, cat 0.1250)"


def test_other_answers_are_json() -> None:
    """Arrays, numbers, texts and objects on one line."""
    assert answer_line("a", np.asarray([1.5, 2], np.float32)) == "a: [1.5,2.0]"
    assert answer_line("a", np.float32(0.1)) == "a: 0.1"
    assert answer_line("a", {"x": [1], "y": "text"}) == 'a: {"x":[1],"y":"text"}'


def test_a_model_whose_outputs_are_called_as_a_classifier_s() -> None:
    """Plain arrays of these names are plain values."""
    answer = {"label": np.asarray([1]), "scores": np.asarray([0.5, 0.25])}
    assert answer_line("a", answer) == 'a: {"label":[1],"scores":[0.5,0.25]}'


@pytest.mark.parametrize("sign", ["\x1b[31m", "\n", "\r", "\x00", "\u202e", "\x9b"])
def test_signs_that_steer_a_terminal_are_made_visible(sign: str) -> None:
    """In file names, labels, values and reasons."""
    classified = {"label": f"l{sign}", "score": 1.0, "scores": {f"l{sign}": 1.0, "m": 0.0}}
    proof = {"name": f"n{sign}", "version": 1, "status": "failed", "reason": f"r{sign}"}
    for line in (
        answer_line(f"f{sign}", classified),
        answer_line("f", f"v{sign}"),
        proof_line(proof),
    ):
        assert line.isprintable()
        assert "\\" in line


def test_the_line_of_a_proof() -> None:
    """What was proved, or why nothing was."""
    head = {"name": "m", "version": 3}
    passed = {
        "status": "passed", "vectors": 16, "batch_sizes": [1, 2], "provider": "cpu",
        "max_abs_difference": 1.234e-7,
    }  # fmt: skip
    assert proof_line(head | passed) == (
        "m version 3: passed (16 golden vectors at batch 1, 2 on cpu, largest difference 1.23e-07)"
    )
    failed = {"status": "failed", "reason": "no model"}
    assert proof_line(head | failed) == "m version 3: failed: no model"
    assert proof_line(head) == "m version 3: unknown"


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """Arrays are lists, and nothing else is written."""
    write_json({"values": np.asarray([1, 2]), "score": np.float32(0.1)})
    assert orjson.loads(capsys.readouterr().out) == {"values": [1, 2], "score": 0.1}


def test_json_of_a_file_whose_name_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is not UTF-8 is escaped, wherever it stands; all other text is left alone."""
    name = os.fsdecode(b"caf\xe9.png")
    write_json({"files": [{"file": name, "text": "caf\u00e9\n"}]})
    found = orjson.loads(capsys.readouterr().out)
    assert found == {"files": [{"file": r"caf\udce9.png", "text": "caf\u00e9\n"}]}


@pytest.mark.usefixtures("wide")
def test_the_report_of_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Facts, tensors, operators, the promise, the figures and the files."""
    bundle = models.picture_bundle(tmp_path)
    (bundle.path / "metrics.json").write_text('{"accuracy": 0.987654321, "n": 7, "table": [1]}')
    bundle = models.resealed(bundle)
    text = written(capsys, bundle.path)
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert {
        "name pictures",
        "version 1",
        "kind bundle",
        f"path {bundle.path}",
        f"digest {bundle.manifest.digest}",
        "parameters 8",
        "nodes 3",
        "opset ai.onnx 18, ai.onnx.ml 3",
        "producer hand-made",
        "image FLOAT [batch, 1, 2, 2]",
        "scores FLOAT [batch, 2]",
        "MatMul 1",
        "task classification",
        "pipeline image",
        "labels left, right",
        "rows independent yes",
        "accuracy 0.987654",
        "n 7",
        "parity: none",
        f"metrics.json {(bundle.path / 'metrics.json').stat().st_size} bytes",
    } <= lines
    assert "table" not in text


@pytest.mark.usefixtures("wide")
def test_the_report_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Axes that say nothing, weights beside the file, metadata, and a producer that is unknown."""
    path = models.write_embedding(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.producer_name = ""
    model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    lines = {" ".join(line.split()) for line in written(capsys, path).splitlines()}
    assert {
        "producer unknown",
        "ids INT64 [?]",
        "external data w.bin",
        "author somebody",
    } <= lines
    assert "contract" not in lines


@pytest.mark.usefixtures("wide")
def test_a_regression_has_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """That is said instead of left out."""
    lines = written(capsys, models.series_bundle(tmp_path).path).splitlines()
    assert "labels none" in {" ".join(line.split()) for line in lines}


def test_names_in_a_file_do_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither escapes nor the markup of the library that draws the tables."""
    name = "\x1b]0;owned\x07[bold red]x[/]"
    path = models.write_model(
        tmp_path / "m.onnx",
        [helper.make_node("Relu", [name], ["y"])],
        inputs=[models.value(name, TensorProto.FLOAT, "n")],
        outputs=[models.value("y", TensorProto.FLOAT, "n")],
    )
    text = written(capsys, path)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert r"\x1b]0;owned\x07[bold red]x[/]" in text
