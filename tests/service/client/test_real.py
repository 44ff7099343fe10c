"""Both clients against the real server: over a socket, and straight into the application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio
from onnx import TensorProto

from service import __version__
from service.app import create_app
from service.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    NotFound,
    Prediction,
    Refused,
    Unavailable,
)
from service.settings import Settings
from tests.support import models
from tests.support.clients import serving
from tests.support.remote import running

pytestmark = pytest.mark.asyncio(loop_scope="module")
RIGHT = np.array([[0, 255], [0, 255]], np.uint8)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return three bundles, four bare models and one that cannot load."""
    root = tmp_path_factory.mktemp("repository")
    models.picture_bundle(root)
    models.series_bundle(root)
    models.text_bundle(root)
    models.write_sum_and_difference(root / "pair.onnx")
    models.write_divider(root / "divider.onnx")
    models.write_identity(root / "words.onnx", TensorProto.STRING, ["n"])
    models.write_identity(root / "half.onnx", TensorProto.FLOAT16)
    (root / "broken.onnx").write_bytes(b"this is no model")
    return root


@pytest.fixture(scope="module")
def client(repository: Path) -> Iterator[Client]:
    """Return a client of a server on a socket."""
    with (
        running(create_app(Settings(repository=repository, access_log=False))) as address,
        Client(address) as one,
    ):
        one.wait_until_ready()
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(repository: Path) -> AsyncIterator[AsyncClient]:
    """Return a client of an application in this process."""
    app = create_app(Settings(repository=repository))
    transport = httpx.ASGITransport(app)
    async with serving(app), AsyncClient("http://server.test", transport=transport) as one:
        yield one


async def test_pictures_in_every_form(client: Client, other: AsyncClient, tmp_path: Path) -> None:
    """Pixels, the file's bytes, its path and the file as body have one answer."""
    file = tmp_path / "right.png"
    file.write_bytes(models.png(RIGHT))
    forms = [RIGHT, models.png(RIGHT), file]
    answers = client.classify("pictures", forms)
    assert answers == await other.classify("pictures", forms)
    assert answers == [client.predict_file("pictures", file)] * 3
    assert answers == [await other.predict_file("pictures", file)] * 3
    assert (answers[0].label, answers[0].score) == ("right", answers[0].scores["right"])


async def test_series_of_different_lengths(client: Client, other: AsyncClient) -> None:
    """Each answer is a plain value, in order."""
    series = [np.array([[1, 2], [3, 4]]), np.array([[1.0, 1.0]])]
    assert client.predict("series", series) == [[5.0], [2.0]]
    assert await other.predict("series", series) == [[5.0], [2.0]]


async def test_texts(client: Client, other: AsyncClient) -> None:
    """One text or several."""
    one = client.predict("texts", "one two three four five")
    several = await other.predict("texts", ["one two three four five", "one"])
    assert one[0] == several[0]
    assert [a.label for a in several if isinstance(a, Prediction)] == ["long", "short"]


async def test_objects_for_a_model_with_several_inputs(client: Client) -> None:
    """Arrays by input."""
    instance = {"a": np.array([3, 4], np.int32), "b": np.array([1, 1], np.int32)}
    assert client.predict("pair", [instance]) == [{"sum": [4, 5], "difference": [2, 3]}]


async def test_tensors_in_json(client: Client, other: AsyncClient) -> None:
    """Arrays in, arrays out, with the id, the version and the wish for outputs."""
    inputs = {"a": np.array([[3, 4]], np.int32), "b": np.array([[1, 1]], np.int32)}
    result = client.infer("pair", inputs, binary=False, id="call-1", outputs=["sum"], version=1)
    assert (result.model_name, result.model_version, result.id) == ("pair", "1", "call-1")
    assert list(result.outputs) == ["sum"]
    assert result["sum"].dtype == np.int32
    assert result["sum"].tolist() == [[4, 5]]
    both = await other.infer("pair", inputs, binary=False)
    assert {name: value.tolist() for name, value in both.outputs.items()} == {
        "sum": [[4, 5]],
        "difference": [[2, 3]],
    }
    words = client.infer("words", {"x": np.array(["a", "é"])}, binary=False)
    assert words["y"].tolist() == [b"a", "é".encode()]


async def test_what_json_cannot_say(client: Client) -> None:
    """An infinity reaches the model; the answer's infinity and NaN come back as NaN."""
    value = np.array([[np.inf, 0.0], [np.nan, 2.0]], np.float32)
    answer = client.infer("divider", {"x": value}, binary=False)["y"]
    assert np.array_equal(answer, [[0.0, np.nan], [np.nan, 0.5]], equal_nan=True)


async def test_what_is_known_of_the_server(client: Client, other: AsyncClient) -> None:
    """Names, versions, shapes and states."""
    assert client.live()
    assert await other.live()
    assert client.models() == await other.models()
    assert "broken" in client.models()
    assert (client.server().name, client.server().version) == ("onnxport", __version__)
    metadata = await other.metadata("pair", version=1)
    assert [(one.name, one.datatype, one.shape) for one in metadata.inputs] == [
        ("a", "INT32", (-1, 2)),
        ("b", "INT32", (-1, 2)),
    ]
    assert metadata.versions == ("1",)
    assert client.info("pictures")["labels"] == ["left", "right"]
    assert client.ready("pair")
    assert not client.ready("broken")
    await other.wait_until_ready(model="pair")
    with pytest.raises(DeadlineExceeded, match="broken"):
        await other.wait_until_ready(0.05, model="broken")


async def test_errors_come_with_the_servers_text(client: Client, other: AsyncClient) -> None:
    """Status, text and the id under which the server's log has it."""
    with pytest.raises(NotFound, match="unknown model: 'nobody'") as caught:
        client.predict("nobody", "x")
    assert caught.value.status == 404
    assert caught.value.request_id
    with pytest.raises(Refused, match="input 'a': expected INT32, got FP64"):
        await other.infer("pair", {"a": np.zeros((1, 2)), "b": np.zeros((1, 2))}, binary=False)
    with pytest.raises(Unavailable, match="FAILED"):
        client.predict("broken", "x", timeout=0.5)
