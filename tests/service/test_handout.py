"""Connections over real sockets, to workers that are only the ends of theirs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from service.blackbox import make_memory
from service.children import Child
from service.handout import Handout
from service.listener import listen
from service.seat import Seat
from tests.support.loads import PATIENCE, chance


@dataclass(frozen=True, slots=True)
class Hall:
    """Two workers, what hands out connections to them, and callers."""

    handout: Handout
    seats: dict[int, Seat]
    ends: dict[int, socket.socket]
    address: tuple[str, int]
    stack: ExitStack

    def call(self, count: int) -> list[socket.socket]:
        """Connect so many callers."""
        made = [socket.create_connection(self.address, PATIENCE) for _ in range(count)]
        for caller in made:
            self.stack.enter_context(caller)
        return made

    async def until_given(self, total: int) -> None:
        """Wait until so many connections have been handed out."""
        async with asyncio.timeout(PATIENCE):
            while sum(seat.open for seat in self.seats.values()) < total:
                await chance()


def child(connections: socket.socket) -> Child:
    """Return a worker of which only the socket for connections matters."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    control, other = socket.socketpair()
    other.close()
    return Child(process, control, connections, make_memory())


@asynccontextmanager
async def hall() -> AsyncIterator[Hall]:
    """Open a listening socket and two workers that take connections; the first holds few."""
    with ExitStack() as stack:
        listener = listen("127.0.0.1", 0)
        seats, ends = {}, {}
        for number in (1, 2):
            ours, ends[number] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.settimeout(0)
            stack.enter_context(ends[number])
            seats[number] = Seat(number, child=child(ours), up=True, settled=True)
        held = seats[1].child
        assert held is not None
        held.connections.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        handout = Handout([listener], seats)
        handout.update()
        yield Hall(handout, seats, ends, listener.getsockname()[:2], stack)
        handout.close()
        for seat in seats.values():
            seat.leave()
            handout.lost(seat)
        handout.abandon()


def receive(end: socket.socket) -> socket.socket:
    """Take one connection as a worker does."""
    _, descriptors, _, _ = socket.recv_fds(end, 1, 1)
    return socket.socket(fileno=descriptors[0])


async def test_what_is_handed_out_is_the_callers_connection() -> None:
    """Bytes cross it in both directions once the worker has it alone."""
    async with hall() as at:
        (caller,) = at.call(1)
        await at.until_given(1)
        with receive(at.ends[1]) as connection:
            at.handout.taken(at.seats[1], 1)
            assert not at.seats[1].pending
            caller.sendall(b"ping")
            assert connection.recv(4) == b"ping"
            connection.sendall(b"pong")
            assert caller.recv(4) == b"pong"
        assert caller.recv(1) == b""


async def test_a_worker_whose_socket_is_full_is_passed_over() -> None:
    """Everybody else is served, and it gets more when it has taken one."""
    async with hall() as at:
        one, two = at.seats[1], at.seats[2]
        at.call(40)
        await at.until_given(40)
        assert one.full
        assert 0 < one.open < 20 < two.open
        before = one.open
        while not one.pending or len(one.pending) == before:
            receive(at.ends[1]).close()
            at.handout.taken(one, 1)
        assert not one.full
        at.call(1)
        await at.until_given(41)
        assert one.open == before + 1


async def test_what_a_dead_worker_has_not_taken_goes_to_another() -> None:
    """All of it, and nothing that it had taken."""
    async with hall() as at:
        one, two = at.seats[1], at.seats[2]
        at.call(4)
        await at.until_given(4)
        receive(at.ends[1]).close()
        at.handout.taken(one, 1)
        at.ends[1].close()
        one.up = False
        at.handout.lost(one)
        assert (len(one.pending), two.open) == (0, 3)


async def test_nobody_is_accepted_while_there_is_no_worker() -> None:
    """Callers wait, and are served by the first that is up."""
    async with hall() as at:
        for seat in at.seats.values():
            seat.up = False
        at.handout.update()
        at.call(3)
        await chance()
        assert [seat.open for seat in at.seats.values()] == [0, 0]
        at.seats[2].up = True
        at.handout.update()
        await at.until_given(3)
        assert at.seats[2].open == 3


async def test_a_worker_that_is_found_dead_gets_nothing() -> None:
    """The connection that was meant for it goes to another at once."""
    async with hall() as at:
        at.ends[1].close()
        at.call(2)
        await at.until_given(2)
        assert not at.seats[1].up
        assert at.seats[2].open == 2
