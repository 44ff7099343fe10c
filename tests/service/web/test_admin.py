"""The repository extension over HTTP: the index, loading and unloading."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from service.app import create_app
from service.lifecycle import State
from service.planning import IndexRow
from service.settings import Settings
from tests.support import models
from tests.support.apps import make_app
from tests.support.clients import client_of, serving
from tests.support.fakes import FakeRepository

pytestmark = pytest.mark.asyncio(loop_scope="session")

INDEX = "/v2/repository/index"
ROW = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [2, 4]}


@pytest_asyncio.fixture(loop_scope="session")
async def explicit(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a server that has loaded nothing of a repository with two models."""
    models.write_doubler(tmp_path / "m" / "1" / "model.onnx")
    models.text_bundle(tmp_path)
    async with explicit_server(tmp_path) as client:
        yield client


@asynccontextmanager
async def explicit_server(repository: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a repository whose models are loaded by request."""
    settings = Settings(repository=repository, model_control="explicit")
    async with serving(create_app(settings)) as client:
        yield client


async def load(client: httpx.AsyncClient, name: str = "m") -> httpx.Response:
    """Ask for a model as KServe's agent does."""
    return await client.post(f"/v2/repository/models/{name}/load", json={})


async def unload(client: httpx.AsyncClient, name: str = "m") -> httpx.Response:
    """Take a model out as Triton's client does."""
    content = {"parameters": {"unload_dependents": False}}
    return await client.post(f"/v2/repository/models/{name}/unload", json=content)


async def infer(client: httpx.AsyncClient) -> httpx.Response:
    """Ask the doubler."""
    return await client.post("/v2/models/m/infer", json={"inputs": [ROW]})


async def index(client: httpx.AsyncClient) -> list[dict[str, str]]:
    """Ask for the index with an empty body, as Triton's client does."""
    answer = await client.post(INDEX, content=b"")
    rows: list[dict[str, str]] = answer.json()
    return rows


async def until_gone(client: httpx.AsyncClient, name: str = "m") -> None:
    """Wait until a model has drained."""
    rows: list[dict[str, str]] = []
    for _ in range(1000):
        rows = [row for row in await index(client) if row["name"] == name]
        if all(row["state"] != "UNLOADING" for row in rows):
            return
        await asyncio.sleep(0.001)
    raise AssertionError(rows)


async def test_nothing_is_loaded_until_it_is_asked_for(explicit: httpx.AsyncClient) -> None:
    """The server is ready, knows the names, and answers for none of them."""
    assert (await explicit.get("/v2/health/ready")).status_code == 200
    assert await index(explicit) == [{"name": "m"}, {"name": "texts"}]
    assert (await explicit.get("/v2/models")).json() == {"models": []}
    assert (await infer(explicit)).status_code == 404


async def test_a_model_is_loaded_used_and_unloaded(explicit: httpx.AsyncClient) -> None:
    """After the answer to the load it is ready; after the unload it is unknown."""
    answer = await load(explicit)
    assert (answer.status_code, answer.json()) == (200, {"name": "m", "load": True})
    assert (await infer(explicit)).json()["outputs"][0]["data"] == [4.0, 8.0]
    assert await index(explicit) == [
        {"name": "m", "version": "1", "state": "READY"},
        {"name": "texts"},
    ]
    answer = await unload(explicit)
    assert (answer.status_code, answer.json()) == (200, {"name": "m", "unload": True})
    await until_gone(explicit)
    assert await index(explicit) == [
        {"name": "m", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "texts"},
    ]
    for path in ("", "/ready", "/config", "/stats"):
        assert (await explicit.get(f"/v2/models/m{path}")).status_code == 404
    assert (await infer(explicit)).json()["error"].startswith("Request for unknown model")
    page = (await explicit.get("/metrics")).text
    assert 'model_name="m"' not in page


async def test_a_bundle_is_proved_before_it_answers(tmp_path: Path) -> None:
    """One that was changed is refused with 400, and its reason stays in the index."""
    bundle = models.text_bundle(tmp_path)
    golden = bundle.path / "golden.npz"
    golden.write_bytes(golden.read_bytes() + b"\0")
    async with explicit_server(tmp_path) as client:
        answer = await load(client, "texts")
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("failed to load 'texts', version 1: ")
        (row,) = await index(client)
        assert (row["state"], row["version"]) == ("UNAVAILABLE", "1")
        assert "golden.npz: " in row["reason"]


async def test_an_unknown_name(explicit: httpx.AsyncClient) -> None:
    """It cannot be loaded, and is as good as unloaded."""
    answer = await load(explicit, "stranger")
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("failed to load 'stranger', no such model")
    assert (await unload(explicit, "stranger")).status_code == 200
    assert (await load(explicit, "..%2Fm")).status_code == 404


async def test_versions_and_labels_on_disk(tmp_path: Path) -> None:
    """serving.toml chooses; metadata lists what is ready in ascending order, or the one asked."""
    for version in (1, 2, 10):
        models.write_doubler(tmp_path / "m" / str(version) / "model.onnx")
    (tmp_path / "m" / "serving.toml").write_text("versions = {latest = 2}\nlabels = {stable = 1}")
    async with explicit_server(tmp_path) as client:
        await load(client)
        assert (await client.get("/v2/models/m")).json()["versions"] == ["1", "2", "10"]
        assert (await client.get("/v2/models/m/versions/2")).json()["versions"] == ["2"]
        (tmp_path / "m" / "serving.toml").unlink()
        await load(client)
        await until_gone(client)
        assert (await client.get("/v2/models/m")).json()["versions"] == ["10"]
        assert (await client.get("/v2/models/m/versions/2")).status_code == 404


async def test_the_info_of_a_model_tells_what_is_ignored(tmp_path: Path) -> None:
    """Who wrote a config.pbtxt learns that it does nothing."""
    models.write_doubler(tmp_path / "m" / "1" / "model.onnx")
    (tmp_path / "m" / "config.pbtxt").write_text("max_batch_size: 4")
    async with explicit_server(tmp_path) as client:
        await load(client)
        (note,) = (await client.get("/v1/models/m/info")).json()["notes"]
        assert "config.pbtxt is ignored" in note


async def test_an_agent_that_deletes_first(tmp_path: Path) -> None:
    """The folder is gone when the unload comes, and comes back with another model."""
    models.write_doubler(tmp_path / "m" / "1" / "model.onnx")
    async with explicit_server(tmp_path) as client:
        assert (await load(client)).status_code == 200
        shutil.rmtree(tmp_path / "m")
        assert (await unload(client)).status_code == 200
        await until_gone(client)
        assert await index(client) == []
        models.write_divider(tmp_path / "m" / "1" / "model.onnx")
        assert (await load(client)).status_code == 200
        assert (await infer(client)).json()["outputs"][0]["data"] == [0.5, 0.25]


async def test_a_model_that_comes_with_the_request(tmp_path: Path) -> None:
    """It is loaded like any other, and the next load without one takes what is on disk."""
    models.write_doubler(tmp_path / "m" / "1" / "model.onnx")
    models.write_divider(tmp_path / "divider.onnx")
    content = base64.b64encode((tmp_path / "divider.onnx").read_bytes()).decode()
    sent = {"parameters": {"config": "{}", "file:3/model.onnx": content}}
    async with explicit_server(tmp_path) as client:
        assert (await load(client)).status_code == 200
        before = (await infer(client)).json()["outputs"][0]["data"]
        answer = await client.post("/v2/repository/models/m/load", json=sent)
        assert (answer.status_code, answer.json()) == (200, {"name": "m", "load": True})
        after = (await infer(client)).json()
        assert (after["model_version"], after["outputs"][0]["data"]) == ("3", [0.5, 0.25])
        broken = {"parameters": {"config": "{}", "file:4/model.onnx": "AAAA"}}
        answer = await client.post("/v2/repository/models/m/load", json=broken)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("failed to load 'm', version 4: m/4/model.onnx")
        assert (await infer(client)).json()["model_version"] == "3"
        assert (await load(client)).status_code == 200
        assert (await infer(client)).json()["outputs"][0]["data"] == before
        answer = await client.post("/v2/repository/models/a%20b/load", json=sent)
        assert answer.status_code == 400


async def test_by_default_nothing_is_loaded_by_request(client: httpx.AsyncClient) -> None:
    """503 with the setting that would allow it; retrying would not help, so nothing advises it."""
    for answer in (await load(client, "pair"), await unload(client, "pair")):
        assert answer.status_code == 503
        assert "model_control is poll" in answer.json()["error"]
        assert "retry-after" not in answer.headers
    rows = {row["name"]: row["state"] for row in await index(client)}
    assert (rows["pair"], rows["broken"]) == ("READY", "UNAVAILABLE")


@pytest.mark.parametrize(
    ("verb", "body", "status", "text"),
    [
        ("load", {"parameters": {"config": "{}"}}, 501, "parameters.config"),
        ("load", {"parameters": {"file:1/model.onnx": "AA=="}}, 400, "files need a config"),
        ("load", {"parameters": {"config": "{}", "file:../../x": "AA=="}}, 400, "file:../../x"),
        ("load", {"parameters": {"speed": 1}}, 400, "parameters.speed: unknown"),
        ("load", {"parameters": []}, 400, "parameters: expected an object, got an array"),
        ("load", [], 400, "expected a JSON object"),
        (
            "unload",
            {"parameters": {"unload_dependents": "no"}},
            400,
            "parameters.unload_dependents: expected true or false, got 'no'",
        ),
        ("unload", {"parameters": {"config": "{}"}}, 400, "known here are: unload_dependents"),
    ],
)
async def test_bodies_that_are_refused(verb: str, body: object, status: int, text: str) -> None:
    """Each names the member; nothing is loaded or unloaded."""
    repository = FakeRepository()
    async with client_of(make_app(repository=repository)) as client:
        answer = await client.post(f"/v2/repository/models/m/{verb}", json=body)
        assert answer.status_code == status
        assert text in answer.json()["error"]
    assert repository.asked == []


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"parameters": {}}', b'{"parameters": null}', b'{"other": 1}']
)
async def test_bodies_that_say_nothing(body: bytes) -> None:
    """Empty or without parameters, they are a load and an unload like any other."""
    repository = FakeRepository()
    async with client_of(make_app(repository=repository)) as client:
        for verb in ("load", "unload"):
            answer = await client.post(f"/v2/repository/models/a%20b/{verb}", content=body)
            assert answer.status_code == 200
    assert repository.asked == [("load", "a b"), ("unload", "a b")]


async def test_dependents_may_be_named(explicit: httpx.AsyncClient) -> None:
    """There are none, so both answers are the same."""
    content = {"parameters": {"unload_dependents": True}}
    answer = await explicit.post("/v2/repository/models/m/unload", json=content)
    assert answer.status_code == 200


ROWS = [
    IndexRow("a"),
    IndexRow("b", 1, State.PENDING),
    IndexRow("b", 2, State.VERIFYING),
    IndexRow("c", 1, State.READY, "its replacement failed: x"),
    IndexRow("d", 1, State.DRAINING),
    IndexRow("e", 1, State.FAILED, "broken"),
]


async def test_the_index_in_tritons_words() -> None:
    """Each state has its word, a reason is there only where there is one."""
    async with client_of(make_app(repository=FakeRepository(ROWS))) as client:
        assert await index(client) == [
            {"name": "a"},
            {"name": "b", "version": "1", "state": "LOADING"},
            {"name": "b", "version": "2", "state": "LOADING"},
            {"name": "c", "version": "1", "state": "READY", "reason": ROWS[3].reason},
            {"name": "d", "version": "1", "state": "UNLOADING"},
            {"name": "e", "version": "1", "state": "UNAVAILABLE", "reason": "broken"},
        ]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "abbcde"),
        ({"ready": False}, "abbcde"),
        ({"ready": None}, "abbcde"),
        ({"ready": True}, "c"),
    ],
)
async def test_the_index_of_what_is_ready(body: object, names: str) -> None:
    """Only what answers, if that is asked for."""
    async with client_of(make_app(repository=FakeRepository(ROWS))) as client:
        rows = (await client.post(INDEX, content=json.dumps(body))).json()
        assert "".join(row["name"] for row in rows) == names


@pytest.mark.parametrize("ready", ["yes", 1, [], {}])
async def test_ready_must_be_a_boolean(client: httpx.AsyncClient, ready: object) -> None:
    """Other values are refused by name."""
    answer = await client.post(INDEX, json={"ready": ready})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("ready: expected true or false, got ")


async def test_other_methods(client: httpx.AsyncClient) -> None:
    """The index and the verbs are asked for with POST."""
    for path in (INDEX, "/v2/repository/models/m/load", "/v2/repository/models/m/unload"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
