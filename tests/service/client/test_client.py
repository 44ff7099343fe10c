"""What both clients send, how they meet failures, and what they make of answers."""

from __future__ import annotations

import base64
import gzip
import inspect
import json
import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import pytest

from service.client import (
    AsyncClient,
    BadAnswer,
    Client,
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    IndexEntry,
    InvalidInput,
    NotAllowed,
    NotFound,
    Prediction,
    Refused,
    ServerFailed,
    ServerMetadata,
    Unavailable,
)
from service.client.transport import OptionKeys, Options
from service.errors import ServiceError
from service.tensors import TensorSpec
from tests.service.client import frames
from tests.service.client.conftest import Ask
from tests.support.models import png
from tests.support.remote import RawBody, ScriptedServer, Step, answering

OK = httpx.Response(200, json={})
NAMES = httpx.Response(200, json={"models": ["a", "b"]})
BUSY = httpx.Response(503, json={"error": "queue full"}, headers={"Retry-After": "0"})
REFUSED = httpx.ConnectError("connection refused")
BROKEN = httpx.RemoteProtocolError("server disconnected")
INFERRED = httpx.Response(200, json={"model_name": "m", "model_version": "1", "outputs": []})
SCORED = {"label": "ham", "score": 0.75, "scores": {"ham": 0.75, "spam": 0.25}}
HAM = Prediction("ham", 0.75, {"ham": 0.75, "spam": 0.25})
X = {"x": np.zeros((1, 2), np.float32)}


def server(*script: httpx.Response | Exception) -> ScriptedServer:
    """Return a server with this script."""
    return ScriptedServer(script)


async def test_the_way_to_a_server(ask: Ask) -> None:
    """A path in the address stays, names are quoted, the key is a bearer token."""
    remote = server(INFERRED)
    await ask(
        remote,
        lambda client: client.infer("a b/ü:x", X, version=3),
        base_url="https://host:1/ml/",
        api_key="key-1",
        headers={"X-Team": "blue"},
    )
    (request,) = remote.requests
    assert str(request.url) == "https://host:1/ml/v2/models/a%20b%2F%C3%BC%3Ax/versions/3/infer"
    assert request.headers["authorization"] == "Bearer key-1"
    assert request.headers["x-team"] == "blue"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("onnxport-client/")


async def test_the_server_is_told_how_long_the_caller_waits(ask: Ask) -> None:
    """In whole milliseconds; without a limit nothing is said."""
    remote = server(NAMES)
    await ask(remote, lambda client: client.models(), timeout=2.0)
    remote_infer = server(INFERRED)
    await ask(remote_infer, lambda client: client.infer("m", X, timeout=math.inf))
    assert 1900 < int(remote.requests[0].headers["x-request-timeout-ms"]) <= 2000
    assert "x-request-timeout-ms" not in remote_infer.requests[0].headers
    assert set(remote_infer.requests[0].extensions["timeout"].values()) == {5.0, None}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, BadAnswer),
        (400, Refused),
        (401, NotAllowed),
        (403, NotAllowed),
        (404, NotFound),
        (413, Refused),
        (429, Unavailable),
        (500, ServerFailed),
        (501, ServerFailed),
        (502, ServerFailed),
        (503, Unavailable),
        (504, DeadlineExceeded),
    ],
)
async def test_statuses_are_errors_of_one_family(
    ask: Ask, status: int, kind: type[ClientError]
) -> None:
    """The server's text, the status and the request id travel with the error."""
    remote = server(
        httpx.Response(status, json={"error": "because"}, headers={"X-Request-Id": "r-1"})
    )
    with pytest.raises(ClientError) as caught:
        await ask(remote, lambda client: client.models())
    assert type(caught.value) is kind
    assert isinstance(caught.value, ServiceError)
    assert (caught.value.status, caught.value.request_id) == (status, "r-1")
    assert str(caught.value) == f"because (HTTP {status}, request id r-1)"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<h1>Bad gateway</h1>", "<h1>Bad gateway</h1> (HTTP 502)"),
        (b'{"detail": 1}', '{"detail": 1} (HTTP 502)'),
        (b"[1]", "[1] (HTTP 502)"),
        (b"\xff", "\ufffd (HTTP 502)"),
        (b"", "the server answered 502 without a reason (HTTP 502)"),
    ],
)
async def test_an_error_in_a_foreign_form(ask: Ask, body: bytes, text: str) -> None:
    """A proxy's page is shown as it is, and something is always said."""
    with pytest.raises(ServerFailed) as caught:
        await ask(server(httpx.Response(502, content=body)), lambda client: client.models())
    assert str(caught.value) == text


async def test_a_refused_connection_is_tried_again_even_for_load(ask: Ask) -> None:
    """Nothing was sent, so nothing can run twice."""
    remote = server(REFUSED, OK)
    await ask(remote, lambda client: client.load("m"))
    assert [request.url.path for request in remote.requests] == ["/v2/repository/models/m/load"] * 2


async def test_attempts_end_with_the_error(ask: Ask) -> None:
    """After the retries the last error is the answer."""
    remote = server(REFUSED)
    with pytest.raises(ConnectionFailed, match=r"http://server\.test: no connection: .*refused"):
        await ask(remote, lambda client: client.models(), retries=1)
    assert len(remote.requests) == 2


async def test_a_busy_server_is_asked_again_when_it_said_so(ask: Ask) -> None:
    """Also for what must not run twice: a refusal was no run."""
    remote = server(BUSY, httpx.Response(429, headers={"Retry-After": "0"}), OK)
    await ask(remote, lambda client: client.unload("m"))
    assert len(remote.requests) == 3


async def test_a_wait_beyond_the_deadline_is_not_begun(ask: Ask) -> None:
    """The caller hears at once what the server advised."""
    remote = server(httpx.Response(503, json={"error": "x"}, headers={"Retry-After": "60"}))
    with pytest.raises(Unavailable) as caught:
        await ask(remote, lambda client: client.models(), timeout=5.0)
    assert caught.value.retry_after == 60.0
    assert len(remote.requests) == 1


async def test_a_broken_connection_is_met_again_for_inference_but_not_for_load(ask: Ask) -> None:
    """An inference may run twice, a change of the repository must not."""
    remote = server(BROKEN, INFERRED)
    await ask(remote, lambda client: client.infer("m", X))
    assert len(remote.requests) == 2
    changed = server(BROKEN, OK)
    with pytest.raises(ConnectionLost):
        await ask(changed, lambda client: client.load("m"))
    assert len(changed.requests) == 1


@pytest.mark.parametrize("error", [httpx.ReadTimeout("slow"), httpx.WriteTimeout("slow")])
async def test_a_timeout_is_never_met_again(ask: Ask, error: Exception) -> None:
    """The server may still be at it."""
    remote = server(error, NAMES)
    with pytest.raises(DeadlineExceeded):
        await ask(remote, lambda client: client.models(), retries=5)
    assert len(remote.requests) == 1


async def test_health_is_an_answer_not_an_error(ask: Ask) -> None:
    """No, wrong and nobody there are all False, and nothing is tried twice."""
    unready = httpx.Response(503, json={"error": "loading"}, headers={"Retry-After": "0"})
    steps: list[tuple[Step, bool]] = [
        (OK, True),
        (unready, False),
        (httpx.Response(400), False),
        (REFUSED, False),
    ]
    for step, yes in steps:
        for do in (lambda c: c.live(), lambda c: c.ready(), lambda c: c.ready("m", version=2)):
            remote = server(step)
            assert await ask(remote, do) is yes
            assert len(remote.requests) == 1
    with pytest.raises(NotFound):
        await ask(server(httpx.Response(404)), lambda client: client.ready("m"))


async def test_waiting_for_a_server_that_is_not_there_yet(ask: Ask) -> None:
    """Nobody, an unknown model and a loading one are all no reason to give up."""
    remote = server(REFUSED, httpx.Response(404), httpx.Response(503), OK)
    await ask(remote, lambda client: client.wait_until_ready(model="m"))
    assert [request.url.path for request in remote.requests] == ["/v2/models/m/ready"] * 4


async def test_waiting_ends_with_the_reason(ask: Ask) -> None:
    """The last thing that was heard is in the error."""
    remote = server(httpx.Response(503, json={"error": "model 'm' is FAILED: no such file"}))
    with pytest.raises(DeadlineExceeded, match=r"not ready after 0\.01 s: model 'm' is FAILED"):
        await ask(remote, lambda client: client.wait_until_ready(0.01))


async def test_bodies_are_compressed_where_it_is_asked_for(ask: Ask) -> None:
    """Long ones only; the length in the header is that of the JSON before compression."""
    big = {"x": np.zeros((1, 1000), np.float32)}
    answer, headers = frames.answer(("y", "FP32", [2], [1.0, 2.0]))
    packed = httpx.Response(
        200, content=gzip.compress(answer), headers={**headers, "Content-Encoding": "gzip"}
    )
    remote = ScriptedServer([packed])
    result = await ask(remote, lambda client: client.infer("m", big), compress=True)
    assert result["y"].tolist() == [1.0, 2.0]
    (request,) = remote.requests
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["accept-encoding"] == "gzip"
    length = request.headers["inference-header-content-length"]
    assert frames.read_request(gzip.decompress(request.content), length)[1]["x"] == [0.0] * 1000
    small = server(INFERRED)
    await ask(small, lambda client: client.infer("m", X), compress=True)
    assert "content-encoding" not in small.requests[0].headers


async def test_an_answer_that_does_not_unpack(ask: Ask) -> None:
    """Damaged compression is the server's fault and named so."""
    broken = RawBody(b"no gzip")
    remote = server(httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=broken))
    with pytest.raises(BadAnswer, match="header"):
        await ask(remote, lambda client: client.models(), compress=True)


async def sent_instances(ask: Ask, instances: Any) -> Any:
    """Return what arrives as instances."""
    remote = server(httpx.Response(200, json={"predictions": []}))
    await ask(remote, lambda client: client.predict("m", instances))
    (request,) = remote.requests
    assert request.url.path == "/v1/models/m:predict"
    return json.loads(request.content)["instances"]


async def test_one_instance_or_many(ask: Ask) -> None:
    """Text, bytes, an array and an object are one; lists, tuples and iterators hold many."""
    coded = {"b64": base64.b64encode(b"png").decode()}
    array = np.array([[1, 2], [3, 4]], np.uint8)
    for one, wanted in [
        ("text", "text"),
        (b"png", coded),
        (array, [[1, 2], [3, 4]]),
        ({"a": array[0], "b": 1}, {"a": [1, 2], "b": 1}),
        (np.float32(0.5), 0.5),
        (2, 2),
    ]:
        assert await sent_instances(ask, one) == [wanted]
        assert await sent_instances(ask, [one, one]) == [wanted, wanted]
        assert await sent_instances(ask, (one,)) == [wanted]
    assert await sent_instances(ask, (str(n) for n in range(2))) == ["0", "1"]
    assert await sent_instances(ask, [[1, [2.5, True, None]]]) == [[1, [2.5, True, None]]]


async def test_arrays_of_every_kind_as_instances(ask: Ask) -> None:
    """Layout and byte order do not show, half precision is written out, texts are texts."""
    base = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert await sent_instances(ask, base.T) == [[[0, 3], [1, 4], [2, 5]]]
    assert await sent_instances(ask, base.astype(">f8")) == [[[0, 1, 2], [3, 4, 5]]]
    for half in (np.float16, ml_dtypes.bfloat16):
        assert await sent_instances(ask, np.array([0.5], half)) == [[0.5]]
    assert await sent_instances(ask, np.array(3)) == [3]
    assert await sent_instances(ask, np.array(["a", b"b"], object)) == [["a", "b"]]
    tokens = (await sent_instances(ask, [np.array([math.inf, 1]), [math.nan]]))[0]
    assert tokens == [math.inf, 1.0]


async def test_files_as_instances(ask: Ask, tmp_path: Path) -> None:
    """Pictures travel as they are, texts and JSON as what they say, a whole request as its own."""
    picture = png([[0, 255]])
    (tmp_path / "a.PNG").write_bytes(picture)
    (tmp_path / "b.txt").write_text("See you", encoding="utf-8")
    (tmp_path / "c.json").write_text("[[1, 2]]")
    (tmp_path / "d.json").write_text('{"instances": [3, 4]}')
    np.save(tmp_path / "e.npy", np.ones((1, 2)))
    files = [tmp_path / name for name in ("a.PNG", "b.txt", "c.json", "d.json", "e.npy")]
    found = await sent_instances(ask, files)
    coded = {"b64": base64.b64encode(picture).decode()}
    assert found == [coded, "See you", [[1, 2]], 3, 4, [[1.0, 1.0]]]


async def test_a_picture_file_is_the_body(ask: Ask, tmp_path: Path) -> None:
    """Without base64, with its media type; other files are an instance."""
    remote = server(httpx.Response(200, json={"predictions": [SCORED]}))
    (tmp_path / "a.jpg").write_bytes(b"jpeg")
    (tmp_path / "b.txt").write_text("text")
    (tmp_path / "c.json").write_text('{"instances": [1, 2]}')
    assert await ask(remote, lambda c: c.predict_file("m", str(tmp_path / "a.jpg"))) == HAM
    assert remote.requests[0].headers["content-type"] == "image/jpeg"
    assert remote.requests[0].content == b"jpeg"
    assert await ask(remote, lambda c: c.predict_file("m", tmp_path / "b.txt", version=2)) == HAM
    assert json.loads(remote.requests[1].content) == {"instances": ["text"]}
    assert remote.requests[1].url.path == "/v1/models/m/versions/2:predict"
    many = server(httpx.Response(200, json={"predictions": [SCORED, SCORED]}))
    with pytest.raises(BadAnswer, match="2 answers for one file"):
        await ask(many, lambda c: c.predict_file("m", tmp_path / "c.json"))


@pytest.mark.parametrize(
    ("instances", "text"),
    [
        ([], "instances: empty"),
        (["fine", object()], r"instances\[1\]: object has no form in JSON"),
        ({"a": {1}}, r"instances\[0\]\.a: set has no form"),
        (np.zeros(1, np.complex64), "complex64 has no form"),
        (np.array([b"\xff"], object), "utf-8"),
        (Path("nothing.png"), r"nothing\.png: No such file"),
        (Path("strange.bmp"), r"strange\.bmp: unknown kind of file '\.bmp'; known are \.png"),
    ],
)
async def test_instances_without_a_form(ask: Ask, instances: Any, text: str) -> None:
    """Nothing is sent, and the text names the instance."""
    remote = server(OK)
    with pytest.raises(InvalidInput, match=text):
        await ask(remote, lambda client: client.predict("m", instances))
    assert not remote.requests


@pytest.mark.parametrize("name", ["bad.txt", "bad.json", "bad.npy"])
async def test_files_that_are_not_what_they_say(ask: Ask, tmp_path: Path, name: str) -> None:
    """The text names the file."""
    (tmp_path / name).write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match=name):
        await ask(server(OK), lambda client: client.predict("m", tmp_path / name))


async def test_answers_of_a_classifier_and_of_others(ask: Ask) -> None:
    """A label with its scores is a Prediction, everything else is as JSON says it."""
    values = [SCORED, [1.5, None], {"sum": [1]}, {**SCORED, "label": 3}, 7]
    remote = server(httpx.Response(200, json={"predictions": values}))
    answers = await ask(remote, lambda client: client.predict("m", "x"))
    assert answers == [HAM, *values[1:]]
    assert (answers[0].label, answers[0].score, answers[0].scores["spam"]) == ("ham", 0.75, 0.25)
    assert repr(answers[0]) == "Prediction(label='ham', score=0.75)"
    with pytest.raises(BadAnswer, match="no classifier"):
        await ask(remote, lambda client: client.classify("m", "x"))
    only = server(httpx.Response(200, json={"predictions": [SCORED]}))
    assert await ask(only, lambda client: client.classify("m", "x")) == [HAM]


async def test_what_is_known_of_server_and_models(ask: Ask) -> None:
    """Each answer is a plain value with names."""
    spec = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
    about = {"name": "m", "versions": ["1"], "platform": "p", "inputs": [spec], "outputs": []}
    entry = {"name": "m", "version": "1", "state": "READY"}
    stats = {"name": "m", "version": "1", "inference_count": 3}
    for do, path, answer, wanted in [
        (lambda c: c.models(), "/v1/models", {"models": ["a"]}, ["a"]),
        (
            lambda c: c.server(),
            "/v2",
            {"name": "s", "version": "1", "extensions": ["e"]},
            ServerMetadata("s", "1", ("e",)),
        ),
        (lambda c: c.info("m", version=1), "/v1/models/m/versions/1/info", {"a": 1}, {"a": 1}),
        (
            lambda c: c.index(),
            "/v2/repository/index",
            [entry, {"name": "n"}],
            [IndexEntry("m", "1", "READY", ""), IndexEntry("n", "", "", "")],
        ),
        (lambda c: c.statistics(), "/v2/models/stats", {"model_stats": [stats]}, [stats]),
        (
            lambda c: c.statistics("m", version=1),
            "/v2/models/m/versions/1/stats",
            {"model_stats": []},
            [],
        ),
    ]:
        remote = server(httpx.Response(200, json=answer))
        assert await ask(remote, do) == wanted
        assert remote.requests[0].url.path == path
    found = await ask(server(httpx.Response(200, json=about)), lambda client: client.metadata("m"))
    assert (found.name, found.versions, found.platform) == ("m", ("1",), "p")
    assert found.inputs == (TensorSpec("x", "FP32", (-1, 2)),)


async def test_the_index_of_what_is_ready(ask: Ask) -> None:
    """The filter is the protocol's."""
    remote = server(httpx.Response(200, json=[]))
    assert await ask(remote, lambda client: client.index(ready=True)) == []
    assert json.loads(remote.requests[0].content) == {"ready": True}


FOREIGN = {"models": 3, "predictions": 1}


@pytest.mark.parametrize(
    "do",
    [
        lambda c: c.models(),
        lambda c: c.metadata("m"),
        lambda c: c.index(),
        lambda c: c.statistics(),
        lambda c: c.predict("m", "x"),
        lambda c: c.classify("m", "x"),
        lambda c: c.infer("m", X),
        lambda c: c.info("m"),
    ],
)
@pytest.mark.parametrize("answer", [None, 3, [3], FOREIGN])
async def test_answers_of_a_foreign_shape(ask: Ask, do: Any, answer: object) -> None:
    """What is no answer of the protocol is a BadAnswer, never a KeyError."""
    remote = server(httpx.Response(200, json=answer))
    try:
        await ask(remote, do)
    except BadAnswer:
        return
    # An object may be anything to `info`.
    assert (answer, remote.requests[0].url.path) == (FOREIGN, "/v1/models/m/info")


@pytest.mark.parametrize(
    ("base_url", "options", "text"),
    [
        ("localhost:8080", {}, "expected such as http://127.0.0.1:8080"),
        ("ftp://host", {}, "ftp://host"),
        ("http://", {}, "expected such as"),
        ("http://h:port", {}, "h:port"),
        ("http://h?a=1", {}, "no query"),
        ("http://h", {"timeout": 0}, "timeout: 0, seconds above 0"),
        ("http://h", {"read_timeout": math.nan}, "read_timeout: nan"),
        ("http://h", {"retries": -1}, "retries: -1, at least 0"),
        ("http://h", {"max_connections": 0}, "max_connections: 0, at least 1"),
        ("http://h", {"api_key": "secret key"}, "api_key: empty, or"),
        ("http://h", {"api_key": "secret\n"}, "api_key"),
    ],
)
async def test_options_that_cannot_work(
    ask: Ask, base_url: str, options: dict[str, Any], text: str
) -> None:
    """They are refused when the client is made; a key never shows."""
    with pytest.raises(InvalidInput) as caught:
        await ask(server(OK), lambda client: client.models(), base_url=base_url, **options)
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_header_that_no_request_can_carry() -> None:
    """It is the caller's to mend, not a connection's failure."""
    with (
        answering(lambda _: None) as remote,
        Client(remote.address, headers={"X-Team": "a\nb"}) as client,
    ):
        with pytest.raises(InvalidInput, match="no form in HTTP"):
            client.models()
        assert repr(client).endswith("retries=0 errors=1>")


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_names_that_would_lead_elsewhere(ask: Ask, name: str) -> None:
    """A name that a path would swallow is refused."""
    with pytest.raises(InvalidInput, match="no name of a model"):
        await ask(server(OK), lambda client: client.metadata(name))
    with pytest.raises(InvalidInput, match="timeout: -1"):
        await ask(server(OK), lambda client: client.infer("m", X, timeout=-1))


async def test_a_client_shows_where_it_goes_and_what_it_did(ask: Ask) -> None:
    """Counts are there, passwords and keys are not."""

    def look(client: Any) -> str:
        return repr(client)

    shown = await ask(server(OK), look, base_url="http://me:secret@h:1/ml", api_key="secret")
    kind = "AsyncClient" if "Async" in shown else "Client"
    assert shown == f"<{kind} http://h:1/ml requests=0 retries=0 errors=0>"


async def test_counts() -> None:
    """Requests are what was sent, errors what the caller saw."""
    remote = server(REFUSED, NAMES, httpx.Response(404))
    with Client("http://h", transport=httpx.MockTransport(remote)) as client:
        client.models()
        with pytest.raises(NotFound):
            client.models()
        assert repr(client) == "<Client http://h requests=3 retries=1 errors=1>"


def test_both_clients_are_one_interface() -> None:
    """Every method of one is a method of the other with the same parameters."""

    def methods(kind: type) -> dict[str, list[str]]:
        return {
            {"aclose": "close"}.get(name, name): list(inspect.signature(method).parameters)
            for name, method in vars(kind).items()
            if inspect.isfunction(method) and not name.startswith("_")
        }

    assert methods(Client) == methods(AsyncClient)


def test_keyword_arguments_are_the_options() -> None:
    """What a type checker allows is what the clients understand."""
    assert set(OptionKeys.__annotations__) == {one.name for one in fields(Options)}


def test_the_client_is_light() -> None:
    """Importing it brings no server, no runtime and no validation library."""
    code = (
        "import sys, service.client; "
        "print(sorted({'fastapi', 'onnx', 'onnxruntime', 'pydantic', 'starlette', 'uvicorn'}"
        " & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
