"""The end of a server as its connections see it: announced first, then made, with nothing lost."""

from __future__ import annotations

import pytest

from tests.support.apps import make_app
from tests.support.fakes import FakeModels, HeldAnswers
from tests.support.wires import Wire, call, wired

GET = b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n"
# A call of the direct road, and one of the other.
ROADS = (call(), GET)


def shut_down(wire: Wire) -> None:
    """Do with every connection what a server does that ends."""
    for connection in list(wire.edge.connections):
        connection.shutdown()


@pytest.mark.parametrize("request_", ROADS)
async def test_the_next_answer_is_the_last(request_: bytes) -> None:
    """A connection that was idle is not ended, but says so when it is used, and ends then."""
    async with wired(make_app()) as wire:
        await wire.send(request_)
        assert "connection" not in (await wire.answer())[1]
        wire.edge.drain()
        await wire.send(request_)
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.closed()


async def test_an_answer_that_is_under_way_is_the_last() -> None:
    """It was accepted, so it is given, with the word that no other will be."""
    answers = HeldAnswers()
    async with wired(make_app(answers=answers)) as wire:
        await wire.send(call())
        held = await answers.calls.get()
        wire.edge.drain()
        held.answer()
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await wire.closed()


@pytest.mark.parametrize("request_", ROADS)
async def test_an_idle_connection_is_hung_up_on_at_the_end(request_: bytes) -> None:
    """Nothing of it is still to be answered."""
    async with wired(make_app()) as wire:
        await wire.send(request_)
        await wire.answer()
        wire.edge.drain()
        shut_down(wire)
        assert await wire.closed()


@pytest.mark.parametrize("request_", ROADS)
async def test_what_the_kernel_already_holds_is_answered(request_: bytes) -> None:
    """The request had come before the end, though nobody had looked at it."""
    async with wired(make_app()) as wire:
        await wire.send(request_)
        await wire.answer()
        wire.edge.drain()
        # Into the kernel, and no turn of the loop in which it could be read.
        wire.writer.write(request_)
        shut_down(wire)
        assert (await wire.answer())[0] == 200
        assert await wire.closed()


@pytest.mark.parametrize("request_", ROADS)
async def test_a_caller_who_has_come_just_now_may_ask(request_: bytes) -> None:
    """Its request is on its way."""
    async with wired(make_app()) as wire:
        await wire.heard()
        wire.edge.drain()
        shut_down(wire)
        await wire.send(request_)
        assert (await wire.answer())[0] == 200
        assert await wire.closed()


async def test_a_caller_who_has_come_and_asks_nothing_is_hung_up_on() -> None:
    """After a moment."""
    async with wired(make_app()) as wire:
        await wire.heard()
        wire.edge.drain()
        shut_down(wire)
        assert await wire.closed()


@pytest.mark.parametrize("parts", [(call()[:40], call()[40:]), (call()[:-5], call()[-5:])])
async def test_half_a_request_is_waited_for(parts: tuple[bytes, bytes]) -> None:
    """Be it in its head or in its body."""
    async with wired(make_app()) as wire:
        await wire.send(parts[0])
        await wire.heard()
        wire.edge.drain()
        shut_down(wire)
        await wire.send(parts[1])
        assert (await wire.answer())[0] == 200
        assert await wire.closed()


async def test_a_server_that_leaves_is_not_ready() -> None:
    """It says why, though all of its models are ready."""
    async with wired(make_app(models=FakeModels(leaving=True))) as wire:
        await wire.send(GET.replace(b"live", b"ready"))
        status, headers, body = await wire.answer()
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"the server is shutting down" in body
