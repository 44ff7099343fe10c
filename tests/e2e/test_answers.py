"""What a user gets over a socket from a server that was started as the README says."""

from __future__ import annotations

import base64

import httpx
import pytest

from service import __version__
from tests.support.models import png
from tests.support.servers import RealServer

LEFT, RIGHT = [[255, 0], [255, 0]], [[0, 255], [0, 255]]


def predictions(client: httpx.Client, model: str, *instances: object) -> list[object]:
    """Return the answers to some instances."""
    answer = client.post(f"/v1/models/{model}:predict", json={"instances": instances})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["predictions"])


def labels(answers: list[object]) -> list[object]:
    """Return the labels that a classifier has answered."""
    return [answer["label"] for answer in answers if isinstance(answer, dict)]


def test_what_is_said_at_the_start(server: RealServer) -> None:
    """Where it listens, what it found, and calls to try."""
    assert server.announced["level"] == "info"
    assert server.address.startswith("http://127.0.0.1:")
    assert server.announced["models"] == [
        "broken", "doubler", "liar", "pictures", "series", "texts",
    ]  # fmt: skip
    calls = server.announced["try"]
    assert any("image/png" in call for call in calls)
    assert all(server.address in call for call in calls)


def test_a_picture_in_every_form(client: httpx.Client) -> None:
    """The bytes of the file, base64 in JSON, and plain numbers are one picture."""
    raw = png(RIGHT)
    body = client.post(
        "/v1/models/pictures:predict", content=raw, headers={"content-type": "image/png"}
    )
    coded = {"b64": base64.b64encode(raw).decode()}
    answers = [*body.json()["predictions"], *predictions(client, "pictures", coded, RIGHT, LEFT)]
    assert labels(answers) == ["right", "right", "right", "left"]
    assert answers[0] == answers[1] == answers[2]


def test_series_of_different_lengths_in_one_call(client: httpx.Client) -> None:
    """Each is answered as if it had come alone."""
    series = [[[1, 2], [3, 4]], [[1, 1]], [[2, 0], [0, 0], [0, 1]]]
    together = predictions(client, "series", *series)
    assert together == [[5], [2], [1]]
    assert together == [answer for one in series for answer in predictions(client, "series", one)]


def test_texts(client: httpx.Client) -> None:
    """Short and long ones share a call."""
    answers = predictions(client, "texts", "one", "one two three four five", "caf\u00e9 \U0001f989")
    assert labels(answers) == ["short", "long", "short"]


def test_the_open_inference_protocol(client: httpx.Client) -> None:
    """V2 speaks the graph's own tensors, with id, datatype and shape."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]]}
    answer = client.post("/v2/models/doubler/infer", json={"id": "7", "inputs": [tensor]})
    assert answer.json() == {
        "model_name": "doubler", "model_version": "1", "id": "7",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [2, 4, 6, 8]}],
    }  # fmt: skip
    metadata = client.get("/v2/models/doubler").json()
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert client.get("/v2").json()["version"] == __version__


def test_what_is_known_of_a_model(client: httpx.Client) -> None:
    """Contract, proof, provider and hashes are one request away."""
    info = client.get("/v1/models/texts/info").json()
    assert info["state"] == "READY"
    assert info["labels"] == ["short", "long"]
    assert info["verification"]["status"] == "passed"
    assert info["verification"]["vectors"] == 16
    assert info["runtime"]["provider"] in ("cpu", "cuda")
    assert set(info["files"]) == {"model.onnx", "golden.npz"}


def test_metrics_count_what_was_answered(client: httpx.Client) -> None:
    """Rows and requests of a model grow by what was sent."""

    def rows() -> float:
        prefix = 'onnxport_rows_total{model_name="series",model_version="1"} '
        page = client.get("/metrics").text
        return next(
            float(line.removeprefix(prefix))
            for line in page.splitlines()
            if line.startswith(prefix)
        )

    before = rows()
    predictions(client, "series", [[1, 1]], [[2, 2]])
    assert rows() == before + 2


@pytest.mark.parametrize(
    ("name", "reason"), [("broken", "not an ONNX file"), ("liar", "the contract says")]
)
def test_a_model_that_cannot_be_served(client: httpx.Client, name: str, reason: str) -> None:
    """Its reason is shown wherever it is asked for, and the server is ready for the others."""
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert name in client.get("/v1/models").json()["models"]
    info = client.get(f"/v1/models/{name}/info").json()
    assert info["state"] == "FAILED"
    assert reason in info["reason"]
    for answer in (
        client.get(f"/v2/models/{name}/ready"),
        client.post(f"/v1/models/{name}:predict", json={"instances": [LEFT]}),
    ):
        assert answer.status_code == 503
        assert reason in answer.json()["error"]
    assert labels(predictions(client, "pictures", LEFT)) == ["left"]


BAD = [
    ("/v1/models/texts:predict", b"", {}, 400, "body: empty"),
    ("/v1/models/texts:predict", b"{", {}, 400, "malformed"),
    ("/v1/models/texts:predict", b'{"instances": []}', {}, 400, "instances: empty"),
    ("/v1/models/texts:predict", b'{"instances": [1]}', {}, 400, "instances[0]: text"),
    ("/v1/models/series:predict", b'{"instances": [[[1]]]}', {}, 400, "instances[0]: series"),
    ("/v1/models/pictures:predict", b"GIF89a", {"content-type": "image/gif"}, 400, "picture"),
    ("/v2/models/doubler/infer", b'{"inputs": []}', {}, 400, "input 'x': missing"),
    ("/v1/models/nobody:predict", b'{"instances": [1]}', {}, 404, "'nobody'"),
    ("/v2/models/doubler/versions/9/infer", b'{"inputs": []}', {}, 404, "version 9"),
    ("/v1/models/texts:explain", b"{}", {}, 501, "explanations are not built"),
    ("/v1/models/texts:predict", b" " * ((1 << 20) + 1), {}, 413, "1048576"),
    ("/v1/models/texts:predict", b"x", {"content-encoding": "br"}, 415, "'br'"),
]


@pytest.mark.parametrize(("path", "body", "headers", "status", "text"), BAD)
def test_bad_input(
    client: httpx.Client, path: str, body: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    """Every refusal has its status and one shape, and says what was seen."""
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert list(content) == ["error"]
    assert text in content["error"]


def test_every_request_has_an_id(client: httpx.Client, server: RealServer) -> None:
    """It comes back with the answer and stands in the line of the log."""
    headers = {"x-request-id": "e2e-42"}
    answer = client.post("/v1/models/nobody:predict", json={"instances": [1]}, headers=headers)
    assert answer.headers["x-request-id"] == "e2e-42"
    while (line := server.logged("request")).get("request_id") != "e2e-42":
        pass
    assert (line["status"], line["error"]) == (404, "model_not_found")
