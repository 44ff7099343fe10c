"""bfloat16, which numpy lacks: in and out of graphs, and on the road of JSON instances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from service.answers import plain
from service.arrays import array_from_json
from service.engine import EngineOptions, OrtEngine
from service.errors import BundleError, InvalidRequest
from service.tensors import BFLOAT16, DATATYPES, Tensor
from tests.support.models import value, write_identity, write_model

# One of each kind: a number, both zeros, the smallest, the largest, infinities and NaN.
BITS = [0x3FC0, 0x0000, 0x8000, 0x0001, 0x7F7F, 0x7F80, 0xFF80, 0x7FC1]


def engine(path: Path) -> OrtEngine:
    """Open a graph."""
    return OrtEngine(str(path), EngineOptions())


def bits(tensor: Tensor) -> list[int]:
    """Return a tensor's elements as their bits."""
    found: list[int] = tensor.reshape(-1).view(np.uint16).tolist()
    return found


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> OrtEngine:
    """Return y = x over bfloat16 rows of 2."""
    path = tmp_path_factory.mktemp("echo") / "model.onnx"
    return engine(write_identity(path, TensorProto.BFLOAT16, ["n", 2]))


def test_every_bit_goes_in_and_comes_out(echo: OrtEngine) -> None:
    """A graph's bfloat16 tensors keep their bits, whatever number they are."""
    sent = np.asarray(BITS, np.uint16).view(BFLOAT16).reshape(4, 2)
    got = echo.run({"x": sent}, ["y"])["y"]
    assert got.dtype == BFLOAT16
    assert got.shape == (4, 2)
    assert bits(got) == BITS


def test_views_with_gaps_and_without_elements(echo: OrtEngine) -> None:
    """Every second row, and no row at all, are tensors too."""
    sent = np.arange(8).astype(BFLOAT16).reshape(4, 2)
    assert echo.run({"x": sent[::2]}, ["y"])["y"].tolist() == [[0, 1], [4, 5]]
    assert echo.run({"x": sent[:0]}, ["y"])["y"].shape == (0, 2)


def test_a_scalar(tmp_path: Path) -> None:
    """Rank 0 stays rank 0."""
    echo = engine(write_identity(tmp_path / "model.onnx", TensorProto.BFLOAT16, []))
    got = echo.run({"x": np.asarray(1.5, BFLOAT16)}, ["y"])["y"]
    assert (got.shape, float(got)) == ((), 1.5)


def write_mixed(path: Path, other: int) -> Path:
    """Write twice = x + x in bfloat16 and text = x as a text beside same = z of another type."""
    return write_model(
        path,
        [
            helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["wide", "wide"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["twice"], to=TensorProto.BFLOAT16),
            helper.make_node("Cast", ["wide"], ["text"], to=TensorProto.STRING),
            helper.make_node("Identity", ["z"], ["same"]),
        ],
        inputs=[value("x", TensorProto.BFLOAT16, "n"), value("z", other, "n")],
        outputs=[
            value("twice", TensorProto.BFLOAT16, "n"),
            value("text", TensorProto.STRING, "n"),
            value("same", other, "n"),
        ],
    )


@pytest.mark.parametrize("wanted", ["twice text same", "same twice", "twice", "text", "same"])
def test_beside_other_types(tmp_path: Path, wanted: str) -> None:
    """All types of one graph arrive, in any choice of outputs."""
    mixed = engine(write_mixed(tmp_path / "model.onnx", TensorProto.DOUBLE))
    inputs = {"x": np.asarray([1.5, -2], BFLOAT16), "z": np.asarray([0.1, 7])}
    got = mixed.run(inputs, wanted.split())
    expected = {"twice": [3, -4], "text": ["1.5", "-2"], "same": [0.1, 7]}
    assert {name: tensor.tolist() for name, tensor in got.items()} == {
        name: expected[name] for name in wanted.split()
    }


def test_a_graph_that_could_never_answer_is_refused(tmp_path: Path) -> None:
    """Texts go in by way of numpy alone, bfloat16 never comes out that way."""
    path = write_mixed(tmp_path / "model.onnx", TensorProto.STRING)
    with pytest.raises(BundleError, match=r"output 'twice'.*input 'z'"):
        engine(path)


def test_it_counts_as_a_float() -> None:
    """Bounds and finiteness are asked of it as of any other float."""
    datatype = DATATYPES["BF16"]
    assert (datatype.size, datatype.is_float, datatype.is_integer) == (2, True, False)


def test_json_instances_of_bfloat16() -> None:
    """V1's rows take numbers and null, round to what fits, and are answered as numbers."""
    row = array_from_json([1, 0.1, None, 1e39], BFLOAT16, "row")
    assert bits(row) == [0x3F80, 0x3DCD, 0x7FC0, 0x7F80]
    with pytest.raises(InvalidRequest, match=r"row\[0\]: expected a number, got a string"):
        array_from_json(["1"], BFLOAT16, "row")
    (answer,) = plain({"y": np.asarray([[1.5, 2]], BFLOAT16)}, ["y"], 1)
    assert np.asarray(answer).dtype == np.float32
    assert np.asarray(answer).tolist() == [1.5, 2]
