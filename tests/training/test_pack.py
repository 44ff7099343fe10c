"""An ONNX file from elsewhere becomes a bundle with its own answers as proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.bundle import Bundle
from service.golden import load
from service.loader import LoadOptions
from service.local import load as load_bundle
from service.repository import scan
from training.pack import pack_model
from training.parity import ExportError

from .tiny import write_softmax, write_vectors


def save_labels(file: Path) -> Path:
    """Write a model that answers with the text of the largest column."""
    texts = np.asarray(["low", "middle", "high"], object)
    table = numpy_helper.from_array(texts, "table")
    graph = helper.make_graph(
        [
            helper.make_node("ArgMax", ["x"], ["place"], axis=1, keepdims=0),
            helper.make_node("Gather", ["table", "place"], ["label"]),
        ],
        "labels",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("label", TensorProto.STRING, ["n"])],
        [table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(file))
    return file


def pack(tmp_path: Path, model: Path, *, labels: Sequence[str] = ()) -> Bundle:
    """Pack a model with sixteen rows of three under the name 'packed'."""
    vectors = write_vectors(tmp_path / "golden.npz")
    return pack_model(model, vectors, repository=tmp_path / "models", name="packed", labels=labels)


def test_a_classifier_is_packed_with_its_own_answers(tmp_path: Path) -> None:
    """Rows are found independent, labels are kept, and parity is marked as absent."""
    model = write_softmax(tmp_path / "model.onnx", ["n", 3], 1)
    bundle = pack(tmp_path, model, labels=["a", "b", "c"])

    bundle.verify_files()
    assert bundle.manifest.batchable
    assert bundle.manifest.labels == ["a", "b", "c"]
    parity = bundle.report("parity")
    assert parity is not None
    assert parity["status"] == "absent"
    golden = load(bundle.read("golden.npz"))
    assert len(golden) == 16
    assert golden.expected["y"][0].sum() == pytest.approx(1)
    assert bundle.read("model.onnx") == model.read_bytes()


@pytest.mark.parametrize(
    ("shape", "axis"), [(["n", 3], 0), ([1, 3], 1), ([3], 0)], ids=["mixed", "one", "whole"]
)
def test_rows_that_cannot_share_a_call_are_not_batchable(
    tmp_path: Path, shape: list[int | str], axis: int
) -> None:
    """A softmax over the batch, a fixed batch of one and a missing batch axis are found out."""
    bundle = pack(tmp_path, write_softmax(tmp_path / "model.onnx", shape, axis))

    assert not bundle.manifest.batchable
    assert all(row.shape == (3,) for row in load(bundle.read("golden.npz")).expected["y"])


def test_a_model_that_answers_with_texts_is_packed(tmp_path: Path) -> None:
    """Texts are recorded like numbers, and the server finds them again."""
    bundle = pack(tmp_path, save_labels(tmp_path / "model.onnx"))

    assert bundle.manifest.batchable
    recorded = {str(row) for row in load(bundle.read("golden.npz")).expected["label"]}
    assert recorded == {"low", "middle", "high"}
    loaded = load_bundle(scan(bundle.path)[0], LoadOptions())
    loaded.engine.close()
    assert loaded.info["verification"] == {
        "status": "passed",
        "vectors": 16,
        "batch_sizes": [1, 2, 32],
        "max_abs_difference": 0.0,
        "provider": "cpu",
    }


def write_graph(file: Path, node: onnx.NodeProto, output: onnx.ValueInfoProto) -> Path:
    """Write a model of one node over rows of three."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph([node], "one", [x], [output])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(file))
    return file


def test_whole_numbers_are_compared_as_such(tmp_path: Path) -> None:
    """An answer may be an index."""
    node = helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)
    output = helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])
    bundle = pack(tmp_path, write_graph(tmp_path / "model.onnx", node, output))

    assert bundle.manifest.batchable
    assert bundle.manifest.outputs[0].datatype == "INT64"


def test_answers_that_do_not_count_the_rows_are_not_batchable(tmp_path: Path) -> None:
    """Whatever their axis is called."""
    node = helper.make_node("Unique", ["x"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    bundle = pack(tmp_path, write_graph(tmp_path / "model.onnx", node, output))

    assert not bundle.manifest.batchable


def test_what_has_no_form_on_the_wire_is_refused(tmp_path: Path) -> None:
    """A list of tensors cannot be sent."""
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    output = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    model = write_graph(tmp_path / "model.onnx", node, output)

    with pytest.raises(ExportError, match=r"'y' is seq\(tensor\(float\)\), which has no form"):
        pack(tmp_path, model)


def test_weights_beside_the_file_are_taken_in(tmp_path: Path) -> None:
    """A bundle is self-contained even if the model was not."""
    model = write_softmax(tmp_path / "model.onnx", ["n", 3], 1, external=True)
    assert (tmp_path / "weights.bin").exists()

    bundle = pack(tmp_path, model)

    (tmp_path / "weights.bin").unlink()
    weight = onnx.load_from_string(bundle.read("model.onnx")).graph.initializer[0]
    assert weight.data_location != onnx.TensorProto.EXTERNAL


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": np.zeros((15, 3), np.float32)}, "at least 16"),
        ({"z": np.zeros((16, 3), np.float32)}, r"inputs are \['x'\]"),
        ({"x": np.zeros((16, 3))}, r"takes tensor\(float\), got float64"),
        ({"x": np.zeros((16, 4), np.float32)}, "cannot answer"),
        ({"x": np.array([{}] * 16)}, "plain arrays"),
    ],
)
def test_unfit_golden_inputs_are_refused(
    tmp_path: Path, arrays: dict[str, NDArray[np.generic]], reason: str
) -> None:
    """Too few, misnamed, mistyped, misshapen and pickled vectors leave no bundle."""
    model = write_softmax(tmp_path / "model.onnx", ["n", 3], 1)
    np.savez(tmp_path / "golden.npz", **arrays)  # type: ignore[arg-type] # keywords of arrays

    with pytest.raises(ExportError, match=reason):
        pack_model(model, tmp_path / "golden.npz", repository=tmp_path / "m", name="packed")

    assert not list((tmp_path / "m").rglob("bundle.json"))


@pytest.mark.parametrize("cut", [0, 30, -1])
def test_what_is_no_npz_is_refused_by_name(tmp_path: Path, cut: int) -> None:
    """A single array, and a file that lacks its end, are answers and not crashes."""
    model = write_softmax(tmp_path / "model.onnx", ["n", 3], 1)
    file = write_vectors(tmp_path / "golden.npz")
    if cut:
        file.write_bytes(file.read_bytes()[:cut])
    else:
        with file.open("wb") as stream:
            np.save(stream, np.zeros((16, 3), np.float32))

    with pytest.raises(ExportError, match=r"golden\.npz: not an npz file of plain arrays"):
        pack_model(model, file, repository=tmp_path / "m", name="packed")


def test_labels_must_fit_the_output(tmp_path: Path) -> None:
    """Two labels for three scores are refused."""
    model = write_softmax(tmp_path / "model.onnx", ["n", 3], 1)

    with pytest.raises(ExportError, match="2 labels"):
        pack(tmp_path, model, labels=["a", "b"])


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07"])
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    """Garbage is named as such."""
    (tmp_path / "model.onnx").write_bytes(content)

    with pytest.raises(ExportError):
        pack(tmp_path, tmp_path / "model.onnx")
