"""What is in an ONNX file, and what is no ONNX file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import orjson
import pytest
from onnx import TensorProto, helper

from service.errors import BundleError
from service.modelfile import ModelInfo, TensorInfo, inspect
from tests.support import models


def test_the_facts_of_a_file(tmp_path: Path) -> None:
    """Tensors with the names of their axes, operators, weights, opset, producer, size."""
    path = models.write_embedding(tmp_path / "m.onnx")
    assert inspect(path) == ModelInfo(
        file="m.onnx",
        bytes=path.stat().st_size,
        ir_version=9,
        opsets={"ai.onnx": 18, "ai.onnx.ml": 3},
        producer="hand-made",
        inputs=(TensorInfo("ids", "INT64", ("n",)),),
        optional_inputs=(),
        outputs=(TensorInfo("y", "FLOAT", ("n", 2)),),
        nodes=1,
        operators={"Gather": 1},
        parameters=8,
        metadata={},
        external_data=(),
    )


def test_facts_survive_as_json(tmp_path: Path) -> None:
    """What the command line and the server answer is plain values."""
    info = inspect(models.write_doubler(tmp_path / "m.onnx")).as_json()
    again = orjson.loads(orjson.dumps(info))
    assert again["inputs"] == [{"name": "x", "datatype": "FLOAT", "shape": ["n", 2]}]
    assert again["operators"] == {"Add": 1}


def test_producer_metadata_and_other_domains(tmp_path: Path) -> None:
    """All that a producer has written about itself is shown."""
    path = models.write_doubler(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.producer_version = "2.1"
    model.opset_import.append(helper.make_opsetid("com.example", 3))
    helper.set_model_props(model, {"author": "somebody"})
    onnx.save(model, str(path))
    info = inspect(path)
    assert info.producer == "hand-made 2.1"
    assert info.opsets == {"ai.onnx": 18, "ai.onnx.ml": 3, "com.example": 3}
    assert info.metadata == {"author": "somebody"}


def test_axes_and_types_that_say_nothing(tmp_path: Path) -> None:
    """An axis without name or size is None; what is no tensor is spelled out."""
    path = models.write_doubler(tmp_path / "m.onnx", axes=["n", 2])
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    model.graph.input.append(sequence)
    model.graph.input.append(onnx.ValueInfoProto(name="nothing"))
    onnx.save(model, str(path))
    assert inspect(path).inputs == (
        TensorInfo("x", "FLOAT", (None, 2)),
        TensorInfo("s", "SEQUENCE(FLOAT)", ()),
        TensorInfo("nothing", "UNKNOWN", ()),
    )


def test_weights_that_are_listed_as_inputs_are_none(tmp_path: Path) -> None:
    """Old files name their weights among the inputs, which no caller can send."""
    path = models.write_embedding(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.graph.input.append(models.value("table", TensorProto.FLOAT, 4, 2))
    onnx.save(model, str(path))
    assert [tensor.name for tensor in inspect(path).inputs] == ["ids"]


def test_weights_beside_the_file(tmp_path: Path) -> None:
    """They are named and counted without being read, so they need not be there."""
    path = models.write_model(
        tmp_path / "m.onnx",
        [helper.make_node("Add", ["x", "w"], ["y"])],
        inputs=[models.value("x", TensorProto.FLOAT, "n", 64)],
        outputs=[models.value("y", TensorProto.FLOAT, "n", 64)],
        constants={"w": np.ones((1, 64), np.float32)},
    )
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    info = inspect(path)
    assert info.external_data == ("w.bin",)
    assert info.parameters == 64


@pytest.mark.parametrize("name", ["m.json", "m.onnxtxt", "m"])
def test_the_name_does_not_choose_the_format(tmp_path: Path, name: str) -> None:
    """A model is what its bytes say."""
    path = models.write_doubler(tmp_path / "m.onnx").rename(tmp_path / name)
    assert inspect(path).operators == {"Add": 1}


@pytest.mark.parametrize(
    "content", [b"", b"no model", b"\x08", b"\x80\x02}q\x00.", b'{"irVersion": 9}', bytes(64)]
)
def test_files_that_are_no_model(tmp_path: Path, content: bytes) -> None:
    """The file is named, whatever it is."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        inspect(path)
    assert str(caught.value).startswith(f"{path}: not an ONNX file: ")


def test_a_truncated_file(tmp_path: Path) -> None:
    """Half a model is none."""
    path = models.write_embedding(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BundleError, match="not an ONNX file"):
        inspect(path)


def test_a_graph_without_outputs(tmp_path: Path) -> None:
    """It parses, and yet there is nothing that it could answer."""
    path = models.write_doubler(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    del model.graph.output[:]
    onnx.save(model, str(path))
    with pytest.raises(BundleError, match="a graph without outputs"):
        inspect(path)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    """The operating system's reason is told."""
    with pytest.raises(BundleError, match="No such file"):
        inspect(tmp_path / "nowhere.onnx")
    with pytest.raises(BundleError, match="not a regular file"):
        inspect(tmp_path)


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    """Nothing is waited for that may never come."""
    pipe = tmp_path / "m.onnx"
    os.mkfifo(pipe)
    with pytest.raises(BundleError, match="not a regular file"):
        inspect(pipe)
