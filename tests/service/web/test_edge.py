"""The connection's side of the direct road: order, callers that go away, ends, and its limits."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from io import StringIO
from typing import cast

import pytest

from service.errors import EngineFailure, Overloaded, ServiceError
from service.inference import OnDone
from service.tensors import Tensors
from service.web.direct import is_plain, target_of
from service.web.exchange import WebOptions
from tests.support.apps import make_app
from tests.support.fakes import EchoAnswers, HeldAnswers, HeldCall
from tests.support.logs import lines
from tests.support.wires import PATH, Wire, call, wired


def connected(
    answers: EchoAnswers, options: WebOptions | None = None
) -> AbstractAsyncContextManager[Wire]:
    """Return a connection to a server over the given predictor."""
    return wired(make_app(answers=answers, options=options))


@dataclass(slots=True)
class RaisingAnswers(EchoAnswers):
    """A predictor that fails as it is told: as it begins, or when it is done."""

    error: Exception = field(default_factory=lambda: RuntimeError("the secret of the house"))
    late: bool = False

    def start(
        self,
        name: str,
        version: int | None,
        inputs: Tensors,
        *,
        wanted: object,
        deadline: float,
        on_done: OnDone,
    ) -> HeldCall:
        """Raise, or report the error in the loop's next turn."""
        if not self.late:
            raise self.error
        # What is no error of ours is what a programming mistake would hand over.
        call = HeldCall(on_done, cast("ServiceError", self.error))
        asyncio.get_running_loop().call_soon(call.answer)
        return call


def test_paths_of_infer_calls() -> None:
    """Name and version are read from the path; other paths are left to the table of roads."""
    plain, numbered = (
        target_of(b"/v2/models/a.b-1/infer"),
        target_of(b"/v2/models/m/versions/7/infer"),
    )
    assert plain is not None
    assert (plain.model, plain.version, plain.road) == ("a.b-1", None, "/v2/models/{name}/infer")
    assert numbered is not None
    assert (numbered.model, numbered.version) == ("m", 7)
    for other in (
        b"/v2/models/m/infer/",
        b"/v2/models/m/infer?a=1",
        b"/v2/models/%6d/infer",
        b"/v2/models/m/versions/x/infer",
        b"/v2/models/m/versions/1111111111111111111/infer",
        b"/v1/models/m:predict",
        b"/v2/models/.m/infer",
    ):
        assert target_of(other) is None


def test_bodies_of_plain_calls() -> None:
    """They come as they are, with their length said first, and are not too long."""
    assert is_plain({b"content-length": b"10"}, 10)
    for headers in (
        {},
        {b"content-length": b"11"},
        {b"content-length": b"0"},
        {b"content-length": b"1e1"},
        {b"content-length": b"99999999999999999999"},
        {b"content-length": b"10", b"content-encoding": b"gzip"},
        {b"content-length": b"10", b"transfer-encoding": b"chunked"},
        {b"content-length": b"10", b"expect": b"100-continue"},
        {b"content-length": b"10", b"inference-header-content-length": b"0"},
    ):
        assert not is_plain(headers, 10)


async def test_an_answer_has_a_whole_head() -> None:
    """Status, date, length, type and the caller's id, as on every other road."""
    async with connected(EchoAnswers()) as wire:
        await wire.send(call("7", head="x-request-id: abc-1\r\n"))
        status, headers, body = await wire.answer()
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == "abc-1"
    assert headers["vary"] == "Accept-Encoding"
    assert json.loads(body)["id"] == "7"
    assert json.loads(body)["outputs"][0]["data"] == [0.5, 0.5]


async def test_a_connection_answers_call_after_call() -> None:
    """Whatever road each of them takes."""
    async with connected(EchoAnswers()) as wire:
        for number, head in enumerate(("", "expect: 100-continue\r\n", "")):
            await wire.send(call(str(number), head=head))
            if head:
                assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert await wire.id_of_answer() == str(number)


async def test_a_body_may_come_in_pieces() -> None:
    """The call begins when its last byte is there."""
    message = call("7")
    async with connected(EchoAnswers()) as wire:
        for at in range(0, len(message), 40):
            await wire.send(message[at : at + 40])
        assert await wire.id_of_answer() == "7"


async def test_calls_in_a_pipeline_are_answered_in_order() -> None:
    """Those that arrive while one is being answered wait for it, and are answered."""
    answers = HeldAnswers()
    async with connected(answers) as wire:
        await wire.send(call("1"), call("2", path=f"{PATH}?"), call("3"))
        first = await answers.calls.get()
        assert answers.calls.empty()
        first.answer()
        assert [await wire.id_of_answer() for _ in range(3)] == ["1", "2", "3"]


async def test_a_caller_that_goes_away_ends_its_call(log: StringIO) -> None:
    """Its work is cancelled, and the log says what became of it."""
    answers = HeldAnswers()
    async with connected(answers) as wire:
        await wire.send(call())
        held = await answers.calls.get()
        wire.writer.transport.abort()
        await held.cancelled.wait()
        held.answer()
    (line,) = lines(log)
    assert (line["status"], line["error"], line["model"]) == (499, "client_gone", "tiny")


async def test_a_caller_that_goes_away_before_its_body_is_whole(log: StringIO) -> None:
    """The exchange is counted, without a model."""
    async with connected(EchoAnswers()) as wire:
        await wire.send(call()[:-5])
        wire.writer.transport.abort()
        while not lines(log):  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0)
    (line,) = lines(log)
    assert (line["status"], line["error"], line["path"]) == (499, "client_gone", PATH)


@pytest.mark.parametrize("late", [False, True])
async def test_an_unexpected_error_reveals_only_the_id(log: StringIO, *, late: bool) -> None:
    """The caller gets JSON with the id, the log gets the traceback under that id."""
    async with connected(RaisingAnswers(late=late)) as wire:
        await wire.send(call(head="x-request-id: abc-1\r\n"))
        status, headers, body = await wire.answer()
        await wire.send(call("7"))
        assert (await wire.answer())[0] == 500
    assert (status, headers["content-type"]) == (500, "application/json")
    assert "abc-1" in json.loads(body)["error"]
    assert b"secret" not in body
    line = lines(log, "onnxport.web")[0]
    assert line["request_id"] == "abc-1"
    if not late:
        assert "secret of the house" in str(line["exception"])


@pytest.mark.parametrize("late", [False, True])
async def test_errors_of_the_runtime(*, late: bool) -> None:
    """Each has its status and text, and where it helps an advised wait."""
    for error, status, retry in (
        (Overloaded("Exceeds maximum queue size", retry_after=7), 503, "7"),
        (EngineFailure("the model failed"), 500, None),
    ):
        async with connected(RaisingAnswers(error=error, late=late)) as wire:
            await wire.send(call())
            seen, headers, body = await wire.answer()
        assert (seen, json.loads(body)) == (status, {"error": str(error)})
        assert headers.get("retry-after") == retry


async def test_long_answers_are_packed_for_who_accepts_it() -> None:
    """And only for them; short ones never."""
    accepting = "accept-encoding: gzip\r\n"
    async with connected(EchoAnswers()) as wire:
        await wire.send(call(values=2000, head=accepting))
        _, headers, body = await wire.answer()
        assert headers["content-encoding"] == "gzip"
        assert len(json.loads(gzip.decompress(body))["outputs"][0]["data"]) == 2000
        for message in (call(values=2000), call(head=accepting)):
            await wire.send(message)
            assert "content-encoding" not in (await wire.answer())[1]


async def test_a_longer_body_takes_the_other_road() -> None:
    """There it is refused with the limit that the operator has set."""
    async with connected(EchoAnswers(), WebOptions(max_body_bytes=100)) as wire:
        await wire.send(call(values=100))
        status, _, body = await wire.answer()
    assert status == 413
    assert "at most 100 bytes" in json.loads(body)["error"]


async def test_a_deadline_in_the_head() -> None:
    """It is the caller's to shorten; what is no time is refused."""
    answers = EchoAnswers()
    async with connected(answers) as wire:
        await wire.send(call(), call(head="x-request-timeout-ms: 1000\r\n"))
        assert [(await wire.answer())[0] for _ in range(2)] == [200, 200]
        assert 28 < answers.deadlines[0] - answers.deadlines[1] <= 29.5
        await wire.send(call(head="x-request-timeout-ms: soon\r\n"))
        assert (await wire.answer())[0] == 400


async def test_a_connection_that_is_to_end() -> None:
    """The call under way is answered, the caller is told, and nothing more is taken."""
    async with connected(EchoAnswers()) as wire:
        await wire.send(call("7", head="connection: close\r\n"))
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.closed()


async def test_a_server_that_shuts_down_answers_what_is_under_way() -> None:
    """Idle connections are closed at once, the others behind their answer."""
    answers = HeldAnswers()
    async with connected(answers) as wire:
        await wire.send(call("7"))
        held = await answers.calls.get()
        for connection in wire.edge.connections:
            connection.shutdown()
        held.answer()
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.closed()
