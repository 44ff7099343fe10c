"""Health, metadata, metrics and the documentation."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service import __version__
from service.app import create_app
from service.registry import State
from service.settings import Settings
from tests.support.apps import make_app
from tests.support.clients import client_of, serving
from tests.support.fakes import FakeModels, view

EXTENSIONS = [
    "binary_tensor_data", "classification", "model_configuration", "model_repository",
    "parameters", "schedule_policy", "statistics",
]  # fmt: skip
SERVER = {"name": "onnxport", "version": __version__, "extensions": EXTENSIONS}

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/", {"status": "alive"}),
        ("/v2", SERVER),
        ("/v2/", SERVER),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/livez", {"live": True}),
        ("/healthz", {"live": True}),
        ("/readyz", {"ready": True}),
        ("/health", {"ready": True}),
        ("/ping", {"ready": True}),
        ("/startupz", {"started": True}),
        ("/v2/models/pair/ready", {"name": "pair", "ready": True}),
        ("/v2/models/pair/versions/1/ready", {"name": "pair", "ready": True}),
    ],
)
async def test_plain_answers(client: httpx.AsyncClient, path: str, content: object) -> None:
    """Health and server metadata have a JSON body, which KServe's client reads."""
    answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (200, content)
    assert answer.headers["content-type"] == "application/json"
    assert (await client.head(path)).status_code == 200


async def test_metadata_of_a_model(client: httpx.AsyncClient) -> None:
    """Inputs and outputs in the graph's order, -1 for what may vary, versions as texts."""
    answer = await client.get("/v2/models/pair/versions/1")
    row = {"datatype": "INT32", "shape": [-1, 2]}
    assert answer.json() == {
        "name": "pair",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "a", **row}, {"name": "b", **row}],
        "outputs": [{"name": "sum", **row}, {"name": "difference", **row}],
    }
    assert (await client.get("/v2/models/pair")).json() == answer.json()


async def test_the_index_names_all_models(client: httpx.AsyncClient) -> None:
    """V2 and V1 list the same names."""
    assert (await client.get("/v2/models")).json() == (await client.get("/v1/models")).json()


async def test_a_failed_model_is_not_ready(client: httpx.AsyncClient) -> None:
    """Its readiness and its metadata are 503 with the reason."""
    for path in ("/v2/models/broken/ready", "/v2/models/broken"):
        answer = await client.get(path)
        assert answer.status_code == 503
        assert "FAILED" in answer.json()["error"]


async def test_the_server_is_live_before_its_models_are_ready() -> None:
    """While a model loads the server answers, and says which one it waits for."""
    app = make_app(models=FakeModels([view("slow", State.LOADING)]))
    async with client_of(app) as client:
        assert (await client.get("/v2/health/live")).status_code == 200
        answer = await client.get("/v2/health/ready")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json() == {
            "ready": False,
            "error": "model 'slow' version 1 is LOADING",
        }


async def test_probes_of_a_server_whose_models_load() -> None:
    """Liveness asks for no model, readiness for a ready one, start-up for an end of loading."""
    found = {}
    for state in (State.LOADING, State.FAILED, State.READY):
        app = make_app(models=FakeModels([view("slow", state, "no luck")]))
        async with client_of(app) as client:
            paths = ("/livez", "/healthz", "/readyz", "/health", "/ping", "/startupz")
            found[state] = [(await client.get(path)).status_code for path in paths]
            if state is State.LOADING:
                text = (await client.get("/startupz")).json()["error"]
                assert text == "model 'slow' version 1 is LOADING: no luck"
    assert found == {
        State.LOADING: [200, 200, 503, 503, 503, 503],
        State.FAILED: [200, 200, 503, 503, 503, 200],
        State.READY: [200, 200, 200, 200, 200, 200],
    }


async def test_versions_in_the_path(client: httpx.AsyncClient) -> None:
    """Digits are a version, other text is no path, and too many digits are refused."""
    assert (await client.get("/v2/models/pair/versions/0001")).status_code == 200
    assert (await client.get("/v2/models/pair/versions/one")).status_code == 404
    assert (await client.get("/v2/models/pair/versions/" + "9" * 19)).status_code == 400


async def test_unknown_paths_and_methods(client: httpx.AsyncClient) -> None:
    """404 and 405 have the shape of every other error; a final slash is not redirected."""
    for path in ("/v3", "/v2/health/live/", "/v2/models/pair/"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert path in answer.json()["error"]
    answer = await client.put("/v2/health/live")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert "PUT" in answer.json()["error"]


async def test_control_bytes_of_a_path_do_not_come_back(client: httpx.AsyncClient) -> None:
    """What is echoed of a path is printable."""
    answer = await client.get("/v2/%1b[31m%0aX")
    assert answer.json()["error"].isprintable()


async def test_metrics_in_text_format(client: httpx.AsyncClient) -> None:
    """Prometheus' old text format, also for a scraper that asks for another."""
    answer = await client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (
        'onnxport_model_state{model_name="pair",model_version="1",state="READY"} 1.0' in answer.text
    )


async def test_metrics_count_only_known_models(client: httpx.AsyncClient) -> None:
    """A name that nobody knows becomes a reason, never a label."""
    await client.post("/v1/models/stranger:predict", json={"instances": [1]})
    await client.get("/paths/of/strangers")
    page = (await client.get("/metrics")).text
    assert "stranger" not in page
    assert 'onnxport_refused_total{reason="model_not_found"}' in page
    assert 'road="unknown",status="404"' in page


async def test_every_road_is_documented(client: httpx.AsyncClient) -> None:
    """The OpenAPI document knows each road, its parameters and an example."""
    document = (await client.get("/openapi.json")).json()
    paths = document["paths"]
    assert "post" in paths["/v2/models/{name}/versions/{version}/infer"]
    assert "post" in paths["/v1/models/{name}:predict"]
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(ids) == len(set(ids)) >= 17
    for path, operations in paths.items():
        for operation in operations.values():
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == {n for n in ("name", "version", "label") if f"{{{n}}}" in path}
            assert {"200", "501"} & set(operation["responses"])


async def test_the_documentation_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    """The page works behind a firewall: nothing on it comes from another host."""
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "openapi.json" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


async def test_a_server_without_models_is_ready(tmp_path: Path) -> None:
    """Nothing is wanted, so nothing is missing."""
    async with serving(create_app(Settings(repository=tmp_path))) as client:
        assert (await client.get("/v2/health/ready")).status_code == 200
        assert (await client.get("/v2/models")).json() == {"models": []}


async def test_behind_a_proxy_that_cuts_a_path_off(tmp_path: Path) -> None:
    """The documentation names the path under which the outside reaches the server."""
    settings = Settings(repository=tmp_path, root_path="/ml")
    async with serving(create_app(settings)) as client:
        assert (await client.get("/openapi.json")).json()["servers"] == [{"url": "/ml"}]
        assert (await client.get("/v2/health/live")).status_code == 200
