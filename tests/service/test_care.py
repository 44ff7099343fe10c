"""Workers that hang or hold a run that does not end, seen from their supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from service import blackbox
from service.admission import Limits
from service.blackbox import RUNNING, BlackBox, label_of
from service.care import Care
from service.children import Child
from service.control import Condemn, Leave, Ping, Stuck
from service.desk import Desk
from service.gate import Gate
from service.seat import Seat
from tests.service.test_desk import Worker

PATIENCE = 10.0


@dataclass(slots=True)
class Ward:
    """A seat with a process that does nothing, and what it is told."""

    seat: Seat
    worker: Worker
    child: Child

    def care(self, *, hang_timeout: float = 0.05, grace: float = 60, deaths: int = 3) -> Care:
        """Return who looks after it."""
        seats = {1: self.seat}
        return Care(
            seats,
            Desk(seats, Gate(Limits(), at_once=1)),
            deaths=deaths,
            hang_timeout=hang_timeout,
            grace=grace,
        )

    async def ended(self) -> int:
        """Wait for the end of the process and return its exit code."""
        return await asyncio.to_thread(self.child.process.wait, PATIENCE)


@pytest.fixture
def ward() -> Iterator[Ward]:
    """Return a worker that is up."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    control, connections = socket.socketpair()
    files, theirs = socket.socketpair()
    theirs.close()
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    child = Child(process, control, connections, files, blackbox.make_memory())
    worker = Worker()
    yield Ward(Seat(1, child=child, writer=worker, up=True), worker, child)
    process.kill()
    process.communicate()
    child.close()


async def watched(care: Care, until: asyncio.Future[int] | asyncio.Event) -> None:
    """Watch until something has happened."""
    watching = asyncio.create_task(care.watch())
    waiting = until if isinstance(until, asyncio.Future) else asyncio.create_task(until.wait())
    await asyncio.wait_for(waiting, PATIENCE)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def test_who_answers_is_left_alone(ward: Ward) -> None:
    """However often it is asked."""
    care, often = ward.care(), asyncio.Event()
    heard = ward.worker.write

    def write(data: bytes) -> None:
        heard(data)
        care.alive(ward.seat)
        if len(ward.worker.heard) > 30:
            often.set()

    class Answering:
        def write(self, data: bytes) -> None:
            write(data)

        def is_closing(self) -> bool:
            return False

    ward.seat.writer = Answering()
    await watched(care, often)
    assert {type(message) for message in ward.worker.heard} == {Ping}
    assert ward.child.process.poll() is None


async def test_who_does_not_answer_is_ended(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    """By the signal that has the interpreter write where it hangs."""
    ended = asyncio.ensure_future(ward.ended())
    await watched(ward.care(), ended)
    assert ended.result() == -signal.SIGABRT
    assert "no sign of life" in caplog.text


async def test_who_hears_no_signal_is_killed(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped takes no other one."""
    monkeypatch.setattr("service.care._LAST_WORDS", 0.01)
    os.kill(ward.child.process.pid, signal.SIGSTOP)
    ended = asyncio.ensure_future(ward.ended())
    await watched(ward.care(), ended)
    assert ended.result() == -signal.SIGKILL


async def test_a_worker_with_a_run_that_does_not_end(ward: Ward) -> None:
    """It gets no more connections, is asked once to go, and is killed if it does not."""
    care = ward.care(grace=0.01)
    for _ in range(2):
        care.stuck(ward.seat, Stuck("m", 1))
    assert [m for m in ward.worker.heard if isinstance(m, Leave)] == [Leave()]
    assert not ward.seat.post.up
    assert await ward.ended() == -signal.SIGKILL


async def test_a_version_that_hangs_too_often(ward: Ward) -> None:
    """It is served no more, and what else ran meanwhile is not to blame."""
    box = BlackBox(ward.child.box)
    box.begin(RUNNING, label_of("m", 1, "files"))
    care = ward.care(deaths=2)
    for _ in range(2):
        assert not [m for m in ward.worker.heard if isinstance(m, Condemn)]
        care.stuck(ward.seat, Stuck("other", 1))
        care.stuck(ward.seat, Stuck("m", 1))
    (condemned,) = [m for m in ward.worker.heard if isinstance(m, Condemn)]
    assert (condemned.culprit.model, condemned.culprit.fingerprint) == ("m", "files")
