"""Binary tensors from client to model and back, once the server says that it speaks them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from onnx import TensorProto

from service.app import create_app
from service.client import Client, Refused
from service.settings import Settings
from tests.support import models
from tests.support.remote import running

EXTENSION = "binary_tensor_data"


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "gzip"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Return a client of a server with one model a datatype, or skip with the reason."""
    root = tmp_path_factory.mktemp("repository")
    for name, kind in [
        ("float", TensorProto.FLOAT),
        ("half", TensorProto.FLOAT16),
        ("long", TensorProto.INT64),
        ("flag", TensorProto.BOOL),
        ("text", TensorProto.STRING),
    ]:
        models.write_identity(root / f"{name}.onnx", kind)
    models.write_sum_and_difference(root / "pair.onnx")
    app = create_app(Settings(repository=root, access_log=False))
    with running(app) as address, Client(address, compress=request.param) as one:
        one.wait_until_ready()
        extensions = one.server().extensions
        if EXTENSION not in extensions:
            pytest.skip(f"the server's extensions {extensions} do not list {EXTENSION}")
        yield one


@pytest.mark.parametrize(
    ("model", "value"),
    [
        ("float", np.array([[1.5, -0.0], [np.inf, np.nan]], np.float32)),
        ("float", np.zeros((0, 2), np.float32)),
        ("float", np.arange(4096, dtype=np.float32).reshape(-1, 2)),
        ("half", np.array([[1.5, 65504.0]], np.float16)),
        ("long", np.array([[2**62 + 1, -(2**63)]], np.int64)),
        ("flag", np.array([[True, False]])),
    ],
)
def test_tensors_come_back_bit_by_bit(client: Client, model: str, value: np.ndarray) -> None:
    """What JSON has no words for, too."""
    result = client.infer(model, {"x": value})["y"]
    assert result.dtype == value.dtype
    assert result.shape == value.shape
    assert result.tobytes() == value.tobytes()


def test_texts_that_are_not_utf8(client: Client) -> None:
    """ONNX Runtime's texts are Unicode: other bytes are refused in words, not garbled."""
    value = np.array([[b"\xff\x00", "é".encode()]], object)
    with pytest.raises(Refused, match="not UTF-8"):
        client.infer("text", {"x": value})
    assert client.infer("text", {"x": value[:, 1:].repeat(2, 1)})["y"].tolist() == [
        [value[0, 1]] * 2
    ]


def test_texts_come_back_as_bytes(client: Client) -> None:
    """Whether they were given as str or as bytes."""
    value = np.array([["", "é" * 300]], object)
    wanted = [[b"", "é".encode() * 300]]
    assert client.infer("text", {"x": value})["y"].tolist() == wanted
    assert client.infer("text", {"x": np.array(wanted, object)})["y"].tolist() == wanted


def test_outputs_by_name(client: Client) -> None:
    """Only what was asked for, with the id; an error is as readable as ever."""
    inputs = {"a": np.array([[3, 4]], np.int32), "b": np.array([[1, 1]], np.int32)}
    result = client.infer("pair", inputs, outputs=["difference"], id="7")
    assert list(result.outputs) == ["difference"]
    assert result["difference"].tolist() == [[2, 3]]
    assert result.id == "7"
    with pytest.raises(Refused, match="'a'"):
        client.infer("pair", {**inputs, "a": np.zeros((1, 2), np.float32)})
