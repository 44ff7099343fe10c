"""Every road of the table over a socket: who may take it, with and without a key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from io import StringIO

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Route

from service.access import Scope
from service.web.exchange import WebOptions
from service.web.roads import RoadRoute
from service.web.security import SCOPE, Access, Policy
from tests.support.access import Closed, bearer, secret
from tests.support.apps import make_app
from tests.support.clients import listening, on_a_socket
from tests.support.logs import lines

INFER = "/v2/models/tiny/infer"
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
OPTIONS = WebOptions(health_route="/my/health", predict_route="/my/predict")
# Which kind of road each path is, so that no one changes it without changing this, too.
KINDS = {
    Access.HEALTH: "/ /my/health /ping /livez /readyz /healthz /health /startupz "
    "/v2/health/live /v2/health/ready",
    Access.METRICS: "/metrics",
    Access.DOCS: "/docs /openapi.json",
    Access.ADMIN: "/v2/repository/models/{name}/load /v2/repository/models/{name}/unload",
    Access.PREDICT: "/invocations /my/predict /v2/models/{name}/infer "
    "/v2/models/{name}/versions/{version}/infer /v1/models/{name}:predict "
    "/v1/models/{name}/versions/{version}:predict /v1/models/{name}/labels/{label}:predict "
    "/v1/models/{name}:explain /v1/models/{name}/versions/{version}:explain "
    "/v1/models/{name}/labels/{label}:explain /v1/models/{name}:{verb} "
    "/v1/models/{name}/versions/{version}:{verb} /v1/models/{name}/labels/{label}:{verb}",
}


def closed_app(policy: Policy | None = None) -> FastAPI:
    """Return an application that knows the keys of `Closed`."""
    return make_app(options=OPTIONS, gate=Closed(policy or Policy()).gate())


def routes(app: FastAPI) -> list[Route]:
    """Return every route that an application has, wherever it came from."""
    found = [route for route in app.routes if isinstance(route, Route)]
    assert len(found) == len(app.routes), "a route of an unknown kind"
    return found


def requests(route: Route) -> list[tuple[str, str]]:
    """Return method and path of calls that take a route."""
    names = {"name": "tiny", "version": "1", "label": "l", "verb": "other"}
    return [(method, route.path_format.format(**names)) for method in route.methods or {"GET"}]


async def ask(client: httpx.AsyncClient, method: str, path: str, key: str = "") -> httpx.Response:
    """Ask as a caller does; the body is one that infer takes."""
    return await client.request(
        method, path, headers=bearer(key) if key else {}, json=BODY if method == "POST" else None
    )


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a closed server, connected by a socket."""
    async with on_a_socket(closed_app()) as one:
        yield one


def test_every_route_comes_from_the_table_and_has_its_policy() -> None:
    """A road beside the table, or one of another kind than written here, fails this."""
    kinds = {path: kind for kind, paths in KINDS.items() for path in paths.split()}
    app = closed_app()
    for route in routes(app):
        assert isinstance(route, RoadRoute), f"{route.path} is not from the table"
        assert route.access is kinds.get(route.path, Access.READ), route.path
    assert {route.path for route in routes(app)} >= set(kinds)


async def test_no_road_but_health_opens_without_a_key(client: httpx.AsyncClient) -> None:
    """Every road and method: 401 in JSON with what to send, unless it is health."""
    for route in routes(closed_app()):
        assert isinstance(route, RoadRoute)
        for method, path in requests(route):
            answer = await ask(client, method, path)
            if route.access is Access.HEALTH:
                assert answer.status_code in (200, 503), path
                continue
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == 'Bearer realm="onnxport"'
            assert method == "HEAD" or "X-API-Key" in answer.json()["error"]


@pytest.mark.parametrize("key", ["unknown", "expired"])
async def test_a_key_that_does_not_count_opens_nothing(client: httpx.AsyncClient, key: str) -> None:
    """Unknown and expired keys are told alike: 401, and the answer says that they were read."""
    for route in routes(closed_app()):
        for method, path in requests(route):
            answer = await ask(client, method, path, key)
            if isinstance(route, RoadRoute) and route.access is Access.HEALTH:
                assert answer.status_code in (200, 503), path
            else:
                assert answer.status_code == 401, path
                assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("scope", list(Scope))
async def test_a_key_opens_the_roads_of_its_scope_only(
    client: httpx.AsyncClient, scope: Scope
) -> None:
    """The others are 403 with the scope that is needed, whatever the method."""
    for route in routes(closed_app()):
        assert isinstance(route, RoadRoute)
        for method, path in requests(route):
            answer = await ask(client, method, path, scope)
            needed = SCOPE[route.access]
            if needed in (None, scope):
                assert answer.status_code not in (401, 403), (path, answer.text)
            else:
                assert answer.status_code == 403, path
                assert method == "HEAD" or f"'{needed}'" in answer.json()["error"]


async def test_what_is_not_there_is_401_before_it_is_404(client: httpx.AsyncClient) -> None:
    """Without a key nobody learns which paths and methods there are."""
    for method, path in (
        ("GET", "/none"), ("POST", "/livez"), ("DELETE", "/metrics"), ("GET", "/livez/"),
        ("OPTIONS", INFER), ("GET", "/docs/"), ("PUT", INFER), ("GET", "/v1/models/tiny:predict"),
    ):  # fmt: skip
        assert (await ask(client, method, path)).status_code == 401, path
        assert (await ask(client, method, path, "all")).status_code in (404, 405), path


@pytest.mark.parametrize(
    "target",
    [
        "//metrics", "/./metrics", "/livez/../metrics", "/livez%2f..%2fmetrics", "/livez;/metrics",
        "http://other/metrics", "http://other/livez/../metrics", "/metrics?x=/livez", "/metrics%00",
        "/METRICS", "/metrics%20", "/livez%0d%0aX-API-Key:%20all-secret",
        "/%2e%2e/livez/metrics", "//livez", "*",
    ],
)  # fmt: skip
async def test_no_spelling_of_a_path_gets_around_the_gate(target: str) -> None:
    """Written straight to the socket, and with a Host that a path could be read from."""
    async with listening(closed_app()) as port:
        for host in ("test", "test/livez?", "livez"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            status = (await reader.readline()).split()[1]
            writer.close()
            assert status in (b"400", b"401"), status


@pytest.mark.parametrize("path", [INFER, "/v2/models/tiny/versions/1/infer"])
@pytest.mark.parametrize(
    "more", [{}, {"Content-Encoding": "gzip"}, {"Expect": "100-continue"}, {"Connection": "close"}]
)
async def test_the_direct_road_obeys_the_same_table(
    client: httpx.AsyncClient, path: str, more: dict[str, str]
) -> None:
    """Whichever of both ways a call takes, the key decides."""
    for key, expected in (("", {401}), ("read", {403}), ("predict", {200, 400})):
        headers = {**more, **(bearer(key) if key else {})}
        answer = await client.post(path, json=BODY, headers=headers)
        assert answer.status_code in expected


async def test_a_key_is_taken_from_each_header_that_clients_can_send(
    client: httpx.AsyncClient,
) -> None:
    """Bearer, X-API-Key, and the password of Triton's client; the scheme in any case."""
    key = secret("predict")
    for headers in (
        {"Authorization": f"Bearer {key}"},
        {"authorization": f"bearer  {key}"},
        {"X-API-Key": key},
        {"X-API-Key": key, "Authorization": "Basic Zm9yOnByb3h5"},
    ):
        answer = await client.post(INFER, json=BODY, headers=headers)
        assert answer.status_code == (401 if "Zm9y" in str(headers) else 200)
    assert (await client.post(INFER, json=BODY, auth=("anyone", key))).status_code == 200


async def test_two_different_keys_are_refused(client: httpx.AsyncClient) -> None:
    """A proxy may have looked at the one and we at the other; the same key twice is one key."""
    key = secret("predict")
    pairs = [("X-API-Key", key), ("X-API-Key", "other")]
    for headers in (pairs, pairs[::-1], [("Authorization", f"Bearer {key}"), ("x-api-key", "b")]):
        answer = await client.post(INFER, json=BODY, headers=headers)
        assert answer.status_code == 401
        assert "several keys" in answer.json()["error"]
    both = {"Authorization": f"Bearer {key}", "X-API-Key": key}
    assert (await client.post(INFER, json=BODY, headers=both)).status_code == 200


async def test_what_may_be_public_is_the_operators_choice() -> None:
    """With nothing public health needs a key, any key; metrics and docs may be opened."""
    async with on_a_socket(closed_app(Policy(public=frozenset()))) as client:
        assert (await ask(client, "GET", "/livez")).status_code == 401
        assert (await ask(client, "GET", "/livez", "predict")).status_code == 200
    public = frozenset({Access.METRICS, Access.DOCS})
    async with on_a_socket(closed_app(Policy(public=public))) as client:
        for path, status in (("/metrics", 200), ("/openapi.json", 200), ("/livez", 401)):
            assert (await ask(client, "GET", path)).status_code == status
    open_to_read = Policy(public=frozenset({Access.READ}))
    async with on_a_socket(closed_app(open_to_read)) as client:
        for path in ("/v2", "/v2/models/tiny", "/v1/models/tiny/versions/1"):
            assert (await ask(client, "GET", path)).status_code == 200
        # It looks like the name of a model, and is a verb.
        for path in ("/v1/models/tiny:predict", "/metrics", "/docs", "/v2/models/tiny/infer"):
            assert (await ask(client, "GET", path)).status_code == 401


async def test_a_host_that_is_not_listed_is_400_on_every_road_but_health() -> None:
    """Also where what is read needs no key, and on the direct road."""
    policy = Policy(
        public=frozenset({Access.HEALTH, Access.READ}), hosts=frozenset({"models.example"})
    )
    async with on_a_socket(closed_app(policy)) as client:
        for host, expected in (("rebound.example", 400), ("Models.Example:80", 200)):
            headers = {**bearer("all"), "Host": host}
            assert (await client.get("/v2", headers=headers)).status_code == expected
            answer = await client.post(INFER, json=BODY, headers=headers)
            assert answer.status_code == expected
            assert (await client.get("/livez", headers=headers)).status_code == 200


async def test_refusals_leave_no_key_in_log_or_answer(
    client: httpx.AsyncClient, log: StringIO
) -> None:
    """The name of an accepted key is in the log, and nothing of any key."""
    wrong = "canary-key-7d1f"
    answer = await client.get("/v2", headers={"X-API-Key": wrong})
    assert wrong not in answer.text
    await ask(client, "POST", INFER, "predict")
    await ask(client, "GET", "/v2", "predict")
    text = log.getvalue()
    assert wrong not in text
    assert secret("predict") not in text
    named = [(line["status"], line.get("client_id")) for line in lines(log)]
    assert named == [(401, None), (200, "predict"), (403, "predict")]


async def test_the_documentation_says_what_opens_each_road() -> None:
    """Schemes and scopes are those of the table; an open server asks for nothing."""
    async with on_a_socket(closed_app()) as client:
        document = (await ask(client, "GET", "/openapi.json", "read")).json()
    operations = {
        path: one for path, methods in document["paths"].items() for one in methods.values()
    }
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    assert operations["/livez"]["security"] == []
    assert operations["/metrics"]["security"] == [{"bearer": ["metrics"]}, {"key": ["metrics"]}]
    assert operations["/invocations"]["security"][0] == {"bearer": ["predict"]}
    assert {"401", "403"} <= operations["/v2/models/{name}/infer"]["responses"].keys()
    assert all("security" in one for one in operations.values())
    async with on_a_socket(make_app()) as client:
        assert "security" not in json.dumps((await client.get("/openapi.json")).json())
