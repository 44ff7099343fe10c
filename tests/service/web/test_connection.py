"""What a connection may cost: heads, bodies, time, number, bytes; and what it is told."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import AbstractAsyncContextManager

import pytest

from service.web.limits import EdgeLimits
from tests.support.apps import make_app
from tests.support.fakes import EchoAnswers, HeldAnswers
from tests.support.wires import PATH, Wire, call, wired

GET = b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n"
CHUNKED = f"POST {PATH} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n".encode()


def connected(
    limits: EdgeLimits | None = None, answers: EchoAnswers | None = None
) -> AbstractAsyncContextManager[Wire]:
    """Return a connection to a server within these limits."""
    return wired(make_app(answers=answers, limits=limits))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost test\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: -5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: 5x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n", 400),
        (CHUNKED + b"zz\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 102, 431),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000, 431),
        (b"GET /" + b"y" * 70_000, 431),
        (f"POST {PATH} HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n".encode(), 413),
        (f"POST {PATH} HTTP/1.1\r\ncontent-length: {'9' * 18}\r\n\r\n".encode(), 413),
    ],
)
async def test_what_is_refused_before_any_road(sent: bytes, status: int) -> None:
    """In JSON, with the reason; the connection ends, and the server goes on."""
    async with connected() as wire:
        await wire.send(sent)
        assert (await wire.refusal())[0] == status
        await wire.heard()


async def test_a_head_in_many_pieces_is_bounded() -> None:
    """What no line break ends is not waited for."""
    async with connected(EdgeLimits(head_bytes=4096)) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(5):
            await wire.send(b"y" * 1000)
            await wire.heard()
        assert await wire.refusal() == (431, "the head of the request has more than 4096 bytes")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nx: "])
async def test_a_head_that_comes_slowly(sent: bytes) -> None:
    """It is told so, or nothing where it has not said a word; in time it is waited for."""
    async with connected() as wire:
        await wire.send(sent)
        await wire.heard()
        wire.pass_time(9)
        wire.pass_time(11)
        if sent:
            assert await wire.refusal() == (408, "the head of the request comes too slowly")
        else:
            assert await wire.closed()


@pytest.mark.parametrize("start", [call()[:-5], CHUNKED + b"5\r\nab"])
async def test_a_body_that_stops(start: bytes) -> None:
    """The caller is told, and whoever waits for the body hears that it has gone."""
    async with connected() as wire:
        await wire.send(start)
        await wire.heard()
        wire.pass_time(9)
        wire.pass_time(11)
        assert await wire.refusal() == (408, "the body of the request comes too slowly")
        assert wire.edge.budget.held == 0


async def test_an_idle_connection_ends_in_time() -> None:
    """Without a word, between two calls."""
    async with connected() as wire:
        await wire.send(call("7"))
        assert await wire.id_of_answer() == "7"
        wire.pass_time(70)
        await wire.send(call("8"))
        assert await wire.id_of_answer() == "8"
        wire.pass_time(80)
        assert await wire.closed()


async def test_a_caller_that_waits_is_not_idle() -> None:
    """Its answer may take as long as its deadline allows."""
    answers = HeldAnswers()
    async with connected(answers=answers) as wire:
        await wire.send(call("7"))
        held = await answers.calls.get()
        wire.pass_time(1000)
        held.answer()
        assert await wire.id_of_answer() == "7"


async def test_too_many_connections() -> None:
    """The next one is told, with an advised wait; those that are there go on."""
    async with connected(EdgeLimits(connections=1)) as wire:
        await wire.send(call("1"))
        assert await wire.id_of_answer() == "1"
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        other = Wire(reader, writer, wire.edge, wire.port)
        status, headers, _ = await other.answer()
        assert (status, headers["retry-after"]) == (503, "1")
        writer.close()
        await wire.send(call("2"))
        assert await wire.id_of_answer() == "2"


async def test_too_many_bytes_in_flight() -> None:
    """A second large body is refused at its head, and fits once the first is answered."""
    answers = HeldAnswers()
    limits = EdgeLimits(bytes_in_flight=3000)
    async with connected(limits, answers) as wire:
        await wire.send(call("1", values=400))
        held = await answers.calls.get()
        for message in (call("2", values=400), CHUNKED + b"800\r\n" + b"x" * 0x800 + b"\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
            other = Wire(reader, writer, wire.edge, wire.port)
            await other.send(message)
            assert (await other.refusal())[0] == 503
            writer.close()
        held.answer()
        assert await wire.id_of_answer() == "1"
        await wire.send(call("3", values=400))
        (await answers.calls.get()).answer()
        assert await wire.id_of_answer() == "3"
        assert wire.edge.budget.held == 0


async def test_a_long_body_is_no_head() -> None:
    """What came with the end of one call is not held against the head of the next."""
    async with connected(EdgeLimits(head_bytes=4096)) as wire:
        await wire.send(call("1", values=2000))
        assert await wire.id_of_answer() == "1"
        message = call("2")
        await wire.send(message[:20])
        await wire.heard()
        await wire.send(message[20:])
        assert await wire.id_of_answer() == "2"


async def test_a_caller_with_a_long_body_that_goes_away_is_noticed() -> None:
    """The connection is still read while its call runs."""
    answers = HeldAnswers()
    async with connected(EdgeLimits(head_bytes=4096), answers) as wire:
        await wire.send(call("1", values=2000))
        held = await answers.calls.get()
        wire.writer.transport.abort()
        await asyncio.wait_for(held.cancelled.wait(), 20)


async def test_nonsense_behind_a_call_does_not_take_its_answer() -> None:
    """The call is answered first and alone; the connection ends behind it."""
    answers = HeldAnswers()
    async with connected(answers=answers) as wire:
        await wire.send(call("7"), b"\x00\x01nonsense\r\n\r\n")
        (await answers.calls.get()).answer()
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.closed()


async def test_the_next_heads_are_not_hoarded_while_a_call_runs() -> None:
    """The server stops to read, and goes on when it has answered."""
    answers = HeldAnswers()
    async with connected(EdgeLimits(head_bytes=4096), answers) as wire:
        await wire.send(call("1"))
        held = await answers.calls.get()
        await wire.send(b"GET /v2/health/live HTTP/1.1\r\nx: ", b"y" * 3000)
        await wire.heard()
        held.answer()
        assert await wire.id_of_answer() == "1"
        await wire.send(b"\r\n\r\n")
        assert (await wire.answer())[0] == 200


async def test_a_wish_for_another_protocol_is_passed_over() -> None:
    """The call is answered as it stands, and the connection ends, since what follows may be it."""
    async with connected() as wire:
        await wire.send(GET[:-2] + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n")
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.closed()


async def test_an_answer_before_the_body_is_whole() -> None:
    """What still comes of the body is not kept, and the next call is answered."""
    async with connected() as wire:
        body = b"x" * 5000
        head = b"POST /v2/nowhere HTTP/1.1\r\nhost: test\r\ncontent-length: 5000\r\n\r\n"
        await wire.send(head, body[:10])
        assert (await wire.answer())[0] == 404
        await wire.send(body[10:], call("7"))
        assert await wire.id_of_answer() == "7"
        await wire.send(head, body[:10])
        assert (await wire.answer())[0] == 404
        await wire.heard()
        wire.pass_time(11)
        assert await wire.closed()


async def test_a_pipelined_body_must_come_in_time() -> None:
    """Also that of a call which had to wait for its turn."""
    answers = HeldAnswers()
    async with connected(answers=answers) as wire:
        await wire.send(call("1"), call("2", values=50)[:-20])
        (await answers.calls.get()).answer()
        assert await wire.id_of_answer() == "1"
        await wire.heard()
        wire.pass_time(11)
        assert (await wire.refusal())[0] == 408


async def test_callers_that_take_no_answers_are_given_up() -> None:
    """Their answers would fill the memory otherwise."""
    async with connected(answers=EchoAnswers()) as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(60):
            await wire.send(call(values=20_000))
            await wire.heard()
        assert len(wire.edge.connections) == 1
        wire.pass_time(1)
        wire.pass_time(12)
        await wire.heard()
        assert not wire.edge.connections


async def test_packed_bodies_and_chunks_still_come() -> None:
    """The limits are for those who abuse them."""
    body = call("7").split(b"\r\n\r\n", 1)[1]
    packed = gzip.compress(body)
    head = f"POST {PATH} HTTP/1.1\r\nhost: test\r\n"
    async with connected() as wire:
        lines = f"{head}content-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n"
        await wire.send(lines.encode(), packed)
        assert await wire.id_of_answer() == "7"
        await wire.send(CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert await wire.id_of_answer() == "7"
        assert wire.edge.budget.held == 0


@pytest.mark.parametrize("sent", [call(), GET])
async def test_a_server_that_is_replaced_says_so_in_its_answers(sent: bytes) -> None:
    """On every road; the connection ends with the answer, and not before."""
    async with connected() as wire:
        await wire.send(sent)
        before = await wire.answer()
        wire.edge.drain()
        await wire.send(sent)
        after = await wire.answer()
        assert await wire.closed()
    assert (before[0], after[0]) == (200, 200)
    assert (before[1].get("connection"), after[1].get("connection")) == (None, "close")
