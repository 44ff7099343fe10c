"""What `training.evaluate` promises, on a graph made by hand whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.contract import Contract, ImagePipeline, InputContract, OutputContract
from training.evaluate import BATCH_ROWS, Evaluation, evaluate_model
from training.raws import to_raw

MEDIA_TYPE = "image/png"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a classifier of pictures of two pixels: the softmax of the two brightnesses."""
    values = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 1, 2]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2]),
    ]
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"]),
        helper.make_node("Softmax", ["pixels"], ["probabilities"]),
    ]
    graph = helper.make_graph(nodes, "brighter", values[:1], values[1:])
    file = tmp_path_factory.mktemp("model") / "model.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(file))
    return file


CONTRACT = Contract(
    task="classification",
    inputs=[InputContract(name="image", datatype="FP32", shape=["batch", 1, 1, 2])],
    outputs=[OutputContract(name="probabilities", datatype="FP32", shape=["batch", 2])],
    pipeline=ImagePipeline(height=1, width=2, channels=1, mean=[0.0], std=[0.5]),
    labels=["left", "right"],
    batchable=True,
)


def evaluate(model: Path, pixels: list[tuple[int, int]], truth: list[int]) -> Evaluation:
    """Evaluate on pictures of these two pixels."""
    pictures = np.array(pixels, np.uint8)[:, None, :, None]
    labels = np.array(truth, np.int64)
    return evaluate_model(model, CONTRACT, map(to_raw, pictures), MEDIA_TYPE, truth=labels)


def test_figures_are_counted_by_hand(model: Path) -> None:
    """Three left, one of them taken for right; two right, both found."""
    pixels = [(255, 0), (200, 10), (10, 200), (0, 255), (90, 100)]
    found = evaluate(model, pixels, [0, 0, 0, 1, 1])
    assert found.answered.tolist() == [0, 0, 1, 1, 1]
    assert found.scores.accuracy.value == pytest.approx(4 / 5)
    assert found.scores.confusion.tolist() == [[2, 1], [0, 2]]
    left, right = found.scores.classes
    assert (left.precision.value, left.recall.value) == pytest.approx((1, 2 / 3))
    assert (right.precision.value, right.recall.value) == pytest.approx((2 / 3, 1))
    assert found.scores.f1.value == pytest.approx(0.8)


def test_probabilities_are_the_files_own_through_the_pipeline(model: Path) -> None:
    """A pixel of 255 is 2 after scaling, so the odds are e to the 2."""
    found = evaluate(model, [(255, 0)], [0])
    assert found.probabilities[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert found.calibration_error == pytest.approx(1 - found.probabilities[0, 0])


def test_more_rows_than_a_batch_keep_their_order(model: Path) -> None:
    """Each row has its own answer."""
    bright = np.random.default_rng(0).integers(0, 2, 2 * BATCH_ROWS + 3).tolist()
    pixels = [(255, 0) if label == 0 else (0, 255) for label in bright]
    found = evaluate(model, pixels, bright)
    assert found.answered.tolist() == bright
    assert found.scores.rows == len(bright)


def test_the_report_names_what_was_measured(model: Path) -> None:
    """Figures with intervals, by class, and how fast and large the file is."""
    report = evaluate(model, [(255, 0), (0, 255)], [0, 1]).as_json()
    assert (report["rows"], report["split"]) == (2, "test")
    assert report["accuracy"]["value"] == 1
    assert report["accuracy"]["low"] < 1
    assert set(report["classes"]) == {"left", "right"}
    assert report["classes"]["left"]["support"] == 1
    assert set(report["macro"]) == {"precision", "recall", "f1"}
    assert report["confusion"] == [[1, 0], [0, 1]]
    assert report["model"]["bytes"] == model.stat().st_size
    assert report["latency"]["median_ms"] >= 0
