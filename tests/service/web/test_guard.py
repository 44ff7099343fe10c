"""The outermost layer: ids, logs, deadlines, callers that go away, errors that nobody expected."""

from __future__ import annotations

import asyncio
import json
from io import StringIO

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.errors import (
    DeadlineExceeded,
    DeviceFull,
    DeviceLost,
    EngineFailure,
    ModelNotReady,
    OutOfMemory,
    Overloaded,
)
from service.metrics import Metrics
from service.web.errors import ErrorAnswers
from service.web.guard import Guard
from service.web.security import Gate
from service.web.visit import Visits
from tests.support.apps import make_app
from tests.support.clients import client_of
from tests.support.fakes import EchoAnswers, FailingAnswers, StuckAnswers
from tests.support.logs import lines

PREDICT = "/v1/models/tiny:predict"
BODY = {"instances": ["secret"]}


async def test_a_request_id_is_kept_or_made() -> None:
    """A sane id comes back as it was, anything else is replaced by a new one."""
    async with client_of(make_app()) as client:
        kept = await client.get("/", headers={"x-request-id": "abc-1"})
        assert kept.headers["x-request-id"] == "abc-1"
        for bad in ("a b", "x" * 200, "a\x7f", ""):
            made = await client.get("/", headers={"x-request-id": bad})
            assert len(made.headers["x-request-id"]) == 32


async def test_one_line_a_request_without_payload(log: StringIO) -> None:
    """The line names road, status, sizes and model, and nothing of the body."""
    async with client_of(make_app()) as client:
        await client.post(PREDICT, json=BODY, headers={"x-request-id": "abc-1"})
        await client.get("/v2/%0a%1b")
    served, unknown = lines(log)
    assert served["request_id"] == "abc-1"
    assert served["status"] == 200
    assert served["model"] == "tiny"
    assert served["bytes_in"] == len(b'{"instances":["secret"]}')
    assert unknown["status"] == 404
    assert "secret" not in log.getvalue()
    assert "\x1b" not in log.getvalue()


async def test_probes_are_logged_only_for_debugging(log: StringIO) -> None:
    """A probe that succeeds is a line at level debug, under every name that it goes by."""
    paths = ["/", "/metrics", "/v2/health/live", "/readyz", "/ping"]
    async with client_of(make_app()) as client:
        for path in [*paths, "/v2"]:
            await client.get(path)
    assert [line["level"] for line in lines(log)] == ["debug"] * len(paths) + ["info"]


async def test_an_unexpected_error_reveals_only_the_id(log: StringIO) -> None:
    """The caller gets JSON with the id, the log gets the traceback under that id."""
    async with client_of(make_app(answers=FailingAnswers())) as client:
        answer = await client.post(PREDICT, json=BODY, headers={"x-request-id": "abc-1"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/json"
    assert "abc-1" in answer.json()["error"]
    assert "secret of the house" not in answer.text
    (line,) = lines(log, "onnxport.web")
    assert line["request_id"] == "abc-1"
    assert "secret of the house" in str(line["exception"])


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (Overloaded("Exceeds maximum queue size", retry_after=7), 503, "7"),
        (ModelNotReady("model 'tiny' is LOADING"), 503, "1"),
        (DeadlineExceeded("too late"), 504, None),
        (EngineFailure("the model failed"), 500, None),
        (DeviceFull("no memory left"), 503, "1"),
        (DeviceLost("the device is lost"), 503, "1"),
        (OutOfMemory("more than there is"), 507, None),
    ],
)
async def test_errors_of_the_runtime(error: Exception, status: int, retry: str | None) -> None:
    """Each error has its status, its text and where it helps an advised wait."""
    async with client_of(make_app(answers=FailingAnswers(error=error))) as client:
        answer = await client.post(PREDICT, json=BODY)
    assert (answer.status_code, answer.json()) == (status, {"error": str(error)})
    assert answer.headers.get("retry-after") == retry


async def test_the_smallest_timeout_wins() -> None:
    """Default, header and V2 parameter are compared; none can lengthen another."""
    answers = EchoAnswers()
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    async with client_of(make_app(answers=answers)) as client:
        for header, microseconds in ((None, 0), ("5000", 9_000_000), ("9000", 4_000_000)):
            await client.post(
                "/v2/models/tiny/infer",
                json={"inputs": [tensor], "parameters": {"timeout": microseconds}},
                headers={"x-request-timeout-ms": header} if header else {},
            )
        await client.post(PREDICT, json=BODY, headers={"x-request-timeout-ms": "3600000"})
    now = asyncio.get_running_loop().time()
    left = [round(deadline - now) for deadline in answers.deadlines]
    assert left == [30, 5, 4, 30]


async def test_a_caller_that_hangs_up_cancels_its_work(log: StringIO) -> None:
    """The work ends, nothing is sent, and the line says that the caller was gone."""
    answers = StuckAnswers()
    app = make_app(answers=answers)
    sent: list[Message] = []
    body = json.dumps(BODY).encode()

    async def receive() -> Message:
        if not answers.begun.is_set():
            return {"type": "http.request", "body": body}
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope(PREDICT), receive, send)
    assert answers.cancelled.is_set()
    assert sent == []
    (line,) = lines(log)
    assert (line["status"], line["error"]) == (499, "client_gone")


async def test_a_server_that_stops_cancels_without_blaming_the_caller() -> None:
    """A cancellation from outside stays one."""
    answers = StuckAnswers()
    async with client_of(make_app(answers=answers)) as client:
        call = asyncio.create_task(client.post(PREDICT, json=BODY))
        await answers.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert answers.cancelled.is_set()


async def test_a_caller_that_hangs_up_in_its_body() -> None:
    """Half a body is nobody's request."""
    sent: list[Message] = []
    parts: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return parts.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await make_app()(_scope(PREDICT), receive, send)
    assert sent == []


async def test_half_an_answer_is_not_mended(log: StringIO) -> None:
    """After the head is out the error goes to the server, which closes the connection."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("late")

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        assert message["type"] == "http.response.start"

    metrics = Metrics("0")
    guard = Guard(
        broken,
        gate=Gate(),
        public=lambda method, path: True,
        errors=ErrorAnswers(metrics),
        visits=Visits(metrics),
        max_body_bytes=10,
    )
    with pytest.raises(RuntimeError, match="late"):
        await guard(_scope("/"), receive, send)
    assert lines(log)[0]["error"] == "internal"


def _scope(path: str) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
