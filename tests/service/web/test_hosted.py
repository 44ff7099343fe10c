"""The roads of hosting platforms: /ping, /invocations and those that the operator names."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.app import create_app
from service.errors import InvalidRequest, NotAcceptable
from service.metrics import Metrics
from service.registry import State
from service.settings import Settings
from service.web.errors import ErrorAnswers
from service.web.exchange import WebOptions
from service.web.guard import Guard
from service.web.platforms import Invocations, check_accept, choose_model, holds_tensors
from service.web.security import Gate
from service.web.visit import Visits
from tests.support import models
from tests.support.apps import make_app, make_parts
from tests.support.clients import client_of, serving
from tests.support.fakes import FakeModels, view

pytestmark = pytest.mark.asyncio(loop_scope="session")

TARGET = "X-Amzn-SageMaker-Target-Model"
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
TRITON = "application/vnd.sagemaker-triton.binary+json;json-header-size="


async def invoke(
    client: httpx.AsyncClient, model: str, body: str | bytes, kind: str, **headers: str
) -> httpx.Response:
    """Send a body of one media type for a model."""
    named = {"content-type": kind, TARGET: model, **headers}
    return await client.post("/invocations", content=body, headers=named)


def text_of(answer: httpx.Response, status: int) -> str:
    """Check the status and the one shape of an error, and return its text."""
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    return str(answer.json()["error"])


async def test_json_is_v1_or_v2_by_its_content(client: httpx.AsyncClient) -> None:
    """Instances and columns are V1, an array of tensors is V2."""
    for kind in ("application/json", "Application/JSON; charset=utf-8", ""):
        rows = await invoke(client, "doubler", '{"instances": [[1, 2]]}', kind)
        assert rows.json() == {"predictions": [[2, 4]]}
    columns = await invoke(client, "doubler", '{"inputs": {"x": [[1, 2]]}}', "application/json")
    assert columns.json() == {"outputs": [[2, 4]]}
    tensors = await invoke(client, "doubler", json.dumps({"inputs": [TENSOR]}), "application/json")
    assert tensors.json()["outputs"][0]["data"] == [2, 4]
    assert tensors.json()["model_name"] == "doubler"


async def test_pictures_and_texts_are_raw_inputs(client: httpx.AsyncClient) -> None:
    """The body is the input itself."""
    picture = await invoke(client, "pictures", models.png([[0, 255], [0, 255]]), "image/png")
    assert picture.json()["predictions"][0]["label"] == "right"
    text = "one two three four fünf"
    answer = await invoke(client, "texts", text.encode(), "text/plain; charset=utf-8")
    assert [one["label"] for one in answer.json()["predictions"]] == ["long"]
    assert "UTF-8" in text_of(await invoke(client, "texts", b"\xff", "text/plain"), 400)


async def test_csv_is_one_instance_a_line(client: httpx.AsyncClient) -> None:
    """Every line is a row of numbers; an empty field is a missing number."""
    answer = await invoke(client, "doubler", "1,2\r\n3,\r\n", "text/csv; header=absent")
    assert answer.json() == {"predictions": [[2, 4], [6, None]]}
    ids = await invoke(client, "bytes8", "3,4", "text/csv")
    assert ids.json() == {"predictions": [[6, 8]]}
    wrong = await invoke(client, "doubler", "1,2\nsepal,4", "text/csv")
    assert text_of(wrong, 400) == "line 2, column 1: expected a number, got 'sepal'"
    short = await invoke(client, "doubler", "1,2\n3,4,5", "text/csv")
    assert "instances" in text_of(short, 400) or "shape" in text_of(short, 400)


async def test_unknown_types_are_refused(client: httpx.AsyncClient) -> None:
    """415 names the type and those that are understood."""
    for kind in ("application/x-npy", "application/octet-stream", "text/html", "nonsense"):
        text = text_of(await invoke(client, "doubler", b"x", kind), 415)
        assert kind in text
        assert "text/csv" in text


async def test_answers_are_json_or_nothing(client: httpx.AsyncClient) -> None:
    """A caller that takes no JSON is told so before the model runs."""
    body = '{"instances": [[1, 2]]}'
    ok = await invoke(client, "doubler", body, "application/json", accept="text/csv, */*;q=0.1")
    assert ok.status_code == 200
    answer = await invoke(client, "doubler", body, "application/json", accept="text/csv")
    assert text_of(answer, 406) == "Accept 'text/csv': answers are application/json"


async def test_errors_of_the_roads_behind_are_theirs(client: httpx.AsyncClient) -> None:
    """Wrong bodies, unknown and failed models are answered as on their own roads."""
    assert "body:" in text_of(await invoke(client, "doubler", "{", "application/json"), 400)
    wrong = json.dumps({"inputs": [{**TENSOR, "shape": [3]}]})
    assert "'x'" in text_of(await invoke(client, "doubler", wrong, "application/json"), 400)
    rows = '{"instances": [[1, 2]]}'
    unknown = await invoke(client, "nobody", rows, "application/json")
    assert "Request for unknown model: 'nobody'" in text_of(unknown, 404)
    assert (await invoke(client, "broken", rows, "application/json")).status_code == 503
    wrong_method = await client.get("/invocations")
    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "POST")


async def test_several_models_need_a_name(client: httpx.AsyncClient) -> None:
    """Without the header the text lists the models and both ways to choose."""
    answer = await client.post("/invocations", json={"instances": [[1, 2]]})
    text = text_of(answer, 400)
    assert "bytes8, counts, divider, doubler" in text
    assert TARGET in text
    assert "--default-model" in text


async def test_the_only_model_needs_none(repository: Path) -> None:
    """One model answers everything, also under the routes that the operator names."""
    settings = Settings(
        repository=repository / "doubler.onnx",
        health_route="/v1/endpoints/7/health",
        predict_route="/v1/endpoints/7:predict",
    )
    async with serving(create_app(settings)) as client:
        for path in ("/invocations", "/v1/endpoints/7:predict"):
            answer = await client.post(path, json={"instances": [[1, 2]], "parameters": {"a": 1}})
            assert answer.json() == {"predictions": [[2, 4]]}
        health = await client.get("/v1/endpoints/7/health")
        assert (health.status_code, health.json()) == (200, {"ready": True})
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert "post" in paths["/v1/endpoints/7:predict"]
        assert "get" in paths["/v1/endpoints/7/health"]


async def test_named_routes_may_be_roads_that_exist(repository: Path) -> None:
    """The operator's routes come first, and one path may be both of them."""
    path = "/v1/models/anything"
    settings = Settings(
        repository=repository, default_model="doubler", health_route=path, predict_route=path
    )
    async with serving(create_app(settings)) as client:
        assert (await client.get(path)).json() == {"ready": True}
        answer = await client.post(path, json={"instances": [[1, 2]]})
        assert answer.json() == {"predictions": [[2, 4]]}
        assert (await client.get("/v1/models/doubler")).json()["name"] == "doubler"


async def test_a_named_health_route_is_a_probe_that_fails_while_loading() -> None:
    """It answers what readiness answers."""
    parts = WebOptions(health_route="/healthy")
    app = make_app(models=FakeModels([view("slow", State.LOADING)]), options=parts)
    async with client_of(app) as client:
        assert (await client.get("/healthy")).status_code == 503


async def test_a_binary_body_goes_to_v2_untouched() -> None:
    """The header or Triton's media type is enough, and the answer's size is told in kind."""
    seen: list[tuple[dict[bytes, bytes], bytes, str]] = []

    async def infer(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        seen.append((dict(scope["headers"]), body, scope["path_params"]["name"]))
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"2"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}\x00"})

    async def predict(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("a binary body is no V1")

    parts = make_parts()
    metrics = Metrics("0")
    guarded = Guard(
        Invocations(parts, infer=infer, predict=predict),
        gate=Gate(),
        public=lambda method, path: True,
        errors=ErrorAnswers(metrics),
        visits=Visits(metrics),
        max_body_bytes=99,
    )
    async with client_of(guarded) as client:
        plain = {"inference-header-content-length": "3", "accept": "application/octet-stream"}
        first = await client.post("/invocations", content=b"{} \x01", headers=plain)
        second = await client.post(
            "/invocations", content=b"{} \x01", headers={"content-type": f"{TRITON}3"}
        )
    assert first.headers["content-type"] == "application/octet-stream"
    assert second.headers["content-type"] == f"{TRITON}2"
    assert first.content == second.content == b"{}\x00"
    for headers, body, name in seen:
        assert headers[b"inference-header-content-length"] == b"3"
        assert (body, name) == (b"{} \x01", "tiny")


async def test_a_read_body_is_not_decoded_twice() -> None:
    """The road behind gets a plain body, and then the news that the caller has gone."""
    seen: list[Message] = []

    async def predict(scope: Scope, receive: Receive, send: Send) -> None:
        assert b"content-encoding" not in dict(scope["headers"])
        seen.extend([await receive(), await receive()])

    parts = make_parts()
    road = Invocations(parts, infer=predict, predict=predict)
    coming: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.request", "body": b"}"},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    await road({"type": "http", "headers": [(b"content-encoding", b"identity")]}, receive, send)
    whole, gone = seen
    assert (whole["body"], whole["more_body"]) == (b"{}", False)
    assert gone["type"] == "http.disconnect"


async def test_which_model_is_meant() -> None:
    """The caller's wish, else the operator's, else the only one."""
    assert choose_model(["a", "b"], target="b", default="a") == "b"
    assert choose_model(["a", "b"], target="", default="a") == "a"
    assert choose_model(["a"], target="", default="") == "a"
    with pytest.raises(InvalidRequest, match="a, b"):
        choose_model(["a", "b"], target="", default="")


async def test_a_server_without_models_is_not_ready_to_answer() -> None:
    """With nothing served a call is 503; a model that was unloaded is not served."""
    for known in ([], [view(state=State.UNLOADED)]):
        async with client_of(make_app(models=FakeModels(known))) as client:
            answer = await client.post("/invocations", json={"instances": [1]})
            assert text_of(answer, 503) == "no model is served yet"


@pytest.mark.parametrize(
    ("accept", "fits"),
    [
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("Application/*;q=0.5, text/html", True),
        ("application/json;verbose=true", True),
        ("text/csv", False),
        ("application/json;q=0, text/csv", False),
        ("*/*; q=0.0, text/csv", False),
        (",,", True),
    ],
)
async def test_what_accept_leaves_room_for(accept: str, *, fits: bool) -> None:
    """JSON by name or by a wildcard that is not refused."""
    if fits:
        check_accept(accept)
    else:
        with pytest.raises(NotAcceptable, match="application/json"):
            check_accept(accept)


@pytest.mark.parametrize(
    ("body", "tensors"),
    [
        (b'{"inputs": [{"name": "x", "datatype": "FP32"}]}', True),
        (b'{"inputs": [{"datatype": "FP32", "data": [NaN]}]}', True),
        (b'{"inputs": [{"x": "\\"datatype\\""}]}', False),
        (b'{"inputs": {"datatype": [1]}}', False),
        (b'{"inputs": [], "datatype": 1}', False),
        (b'{"instances": [{"datatype": 1}]}', False),
        (b'["datatype"]', False),
        (b'{"datatype"', False),
        (b"", False),
    ],
)
async def test_what_is_v2(body: bytes, *, tensors: bool) -> None:
    """An array under `inputs` whose members all name a datatype."""
    assert holds_tensors(body) is tensors
