"""One answer for all workers, from a supervisor whose workers a test speaks for."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service import desk as desks
from service.admission import Limits
from service.children import Child
from service.control import (
    Admit,
    Answer,
    Ask,
    Board,
    Condemn,
    Culprit,
    Decoder,
    Done,
    Figures,
    Message,
    Order,
    Request,
    States,
    Uploaded,
    VersionState,
)
from service.desk import Desk
from service.errors import ControlBroken
from service.folders import UploadFolders
from service.gate import Gate
from service.handover import Handover
from service.poller import Task
from service.seat import Seat
from service.snapshots import Snapshot
from tests.support.proving import REFUSED, Provers, admitted
from tests.support.runtime import settle

READY = VersionState("m", 1, "READY")


@dataclass(slots=True)
class Worker:
    """What one worker was sent."""

    decoder: Decoder = field(default_factory=Decoder)
    heard: list[Message] = field(default_factory=list)

    def write(self, data: bytes) -> None:
        """Hear the messages in it."""
        self.heard += self.decoder.feed(data)

    def is_closing(self) -> bool:
        """Stay to the end."""
        return False

    def last(self, kind: type[Any]) -> Any:
        """Return the last message of a kind; fails if there is none."""
        return [message for message in self.heard if isinstance(message, kind)][-1]

    def orders(self) -> list[tuple[str, str]]:
        """Return what it was told to do."""
        return [(one.verb, one.model) for one in self.heard if isinstance(one, Order)]


@dataclass(frozen=True, slots=True)
class Floor:
    """A desk with its workers."""

    desk: Desk
    seats: dict[int, Seat]
    workers: dict[int, Worker]
    provers: Provers

    async def hear(self, number: int, message: Message) -> None:
        """Let a worker say something, and everything happen that follows."""
        self.desk.hear(self.seats[number], message)
        await settle()

    async def done(self, number: int, code: str = "", text: str = "") -> None:
        """Let a worker have done what it was told last."""
        order = self.workers[number].last(Order)
        await self.hear(number, Done(order.id, code, text))

    def die(self, number: int) -> None:
        """Let a worker die."""
        self.seats[number].up = False
        self.desk.lost(self.seats[number])
        self.seats[number].leave()


@asynccontextmanager
async def floor(count: int = 3, folders: UploadFolders | None = None) -> AsyncIterator[Floor]:
    """Open a desk whose workers are up, settled and ready."""
    workers = {number: Worker() for number in range(1, count + 1)}
    seats = {n: Seat(n, writer=worker, up=True) for n, worker in workers.items()}
    provers = Provers()
    desk = Desk(seats, Gate(Limits(), at_once=2, start=provers), folders)
    at = Floor(desk, seats, workers, provers)
    for number in workers:
        await at.hear(number, States(ready=True, settled=True, versions=(READY,)))
    yield at
    at.desk.close()


def counted(value: int) -> Snapshot:
    """Return the figures of a worker that has counted so far."""
    sample = ["c_total", {}, value]
    return {
        "families": [{"name": "c", "type": "counter", "help": "", "samples": [sample]}],
        "statistics": [],
    }


async def test_all_hear_what_holds_for_all() -> None:
    """Once all have spoken, and again when one of them is worse."""
    async with floor() as at:
        for worker in at.workers.values():
            assert worker.last(Board) == Board(ready=True, versions=(READY,))
        failed = VersionState("m", 1, "FAILED", "it fell")
        await at.hear(2, States(ready=False, settled=True, versions=(failed,)))
        assert at.workers[3].last(Board) == Board(ready=False, versions=(failed,))


async def test_a_restarted_worker_counts_when_it_has_settled() -> None:
    """Until then the others are ready without it."""
    async with floor() as at:
        at.die(2)
        at.seats[2].writer, at.seats[2].up = at.workers[2], True
        loading = VersionState("m", 1, "LOADING")
        await at.hear(2, States(ready=False, settled=False, versions=(loading,)))
        assert at.workers[1].last(Board) == Board(ready=True, versions=(READY,))
        failed = VersionState("m", 1, "FAILED", "no memory")
        await at.hear(2, States(ready=False, settled=True, versions=(failed,)))
        assert at.workers[1].last(Board) == Board(ready=False, versions=(failed,))


async def test_figures_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the dead what they had counted, of the silent what they last said."""
    async with floor() as at:
        await at.hear(2, Figures(0, counted(20)))
        await at.hear(3, Figures(0, counted(300)))
        at.die(3)
        monkeypatch.setattr(desks, "PATIENCE", 0)
        await at.hear(1, Request(9, "figures"))
        answer = at.workers[1].last(Answer)
        assert answer.id == 9
        assert answer.content["live"] == {"2": counted(20)}
        assert answer.content["past"]["families"][0]["samples"] == [["c_total", {}, 300]]
        assert answer.content["workers"] == 2


async def test_figures_that_are_told_in_time_are_taken() -> None:
    """Everybody is asked, and the answer waits for them."""
    async with floor(2) as at:
        await at.hear(2, Request(9, "figures"))
        for number in (1, 2):
            asked = at.workers[number].last(Ask)
            assert not any(isinstance(one, Answer) for one in at.workers[2].heard)
            await at.hear(number, Figures(asked.id, counted(number)))
        live = at.workers[2].last(Answer).content["live"]
        assert live == {"1": counted(1), "2": counted(2)}


async def test_one_worker_loads_first_and_not_the_one_that_was_asked() -> None:
    """The others follow; the answer comes when all have done it."""
    async with floor() as at:
        await at.hear(1, Request(5, "load", "n"))
        assert [worker.orders() for worker in at.workers.values()] == [[], [("load", "n")], []]
        await at.done(2)
        assert at.workers[1].orders() == at.workers[3].orders() == [("load", "n")]
        await at.done(1)
        assert not any(isinstance(one, Answer) for one in at.workers[1].heard)
        await at.done(3)
        assert at.workers[1].last(Answer) == Answer(5)


async def test_a_model_that_ends_its_process_ends_only_one() -> None:
    """The others are not told to load it, and a worker that starts later is not either."""
    async with floor() as at:
        await at.hear(1, Request(5, "load", "deadly"))
        at.die(2)
        await settle()
        answer = at.workers[1].last(Answer)
        assert (answer.code, answer.text[:23]) == ("load_refused", "failed to load 'deadly'")
        assert at.workers[1].orders() == at.workers[3].orders() == []
        assert at.desk.start_of(at.seats[2], threads=1, address="", settings={}).loaded == ()


async def test_the_first_error_is_the_answer() -> None:
    """And all have tried, so that all know."""
    async with floor(2) as at:
        await at.hear(1, Request(5, "load", "bad"))
        await at.done(2, "load_refused", "failed to load 'bad', version 1: no")
        await at.done(1, "load_refused", "failed to load 'bad', version 1: no")
        answer = at.workers[1].last(Answer)
        assert (answer.code, answer.text) == ("load_refused", "failed to load 'bad', version 1: no")


async def test_who_starts_later_has_what_was_asked_for() -> None:
    """With the first message, or afterwards if it was asked for in the meantime."""
    async with floor(2) as at:
        at.die(2)
        early = at.desk.start_of(at.seats[2], threads=1, address="", settings={})
        assert (early.loaded, early.unloaded) == ((), ())
        for verb, model in (("load", "n"), ("unload", "m")):
            await at.hear(1, Request(5, verb, model))
            await at.done(1)
        at.seats[2].writer, at.seats[2].up = at.workers[2], True
        at.desk.greet(at.seats[2])
        assert at.workers[2].orders() == [("load", "n"), ("unload", "m")]
        late = at.desk.start_of(at.seats[2], threads=1, address="", settings={})
        assert (late.loaded, late.unloaded) == (("n",), ("m",))
        at.workers[2].heard.clear()
        at.desk.greet(at.seats[2])
        assert at.workers[2].orders() == []


async def test_a_culprit_is_condemned_until_it_is_loaded_by_request() -> None:
    """Everybody hears of it, and so does who starts later."""
    culprit = Culprit("m", 1, "ab", "it died")
    async with floor(2) as at:
        at.desk.condemn(culprit)
        assert [worker.last(Condemn) for worker in at.workers.values()] == [Condemn(culprit)] * 2
        start = at.desk.start_of(at.seats[1], threads=1, address="", settings={})
        assert start.culprits == (culprit,)
        await at.hear(1, Request(5, "load", "m"))
        start = at.desk.start_of(at.seats[1], threads=1, address="", settings={})
        assert start.culprits == ()


async def test_requests_for_one_model_take_turns() -> None:
    """The second begins when the first has been answered; other models do not wait."""
    async with floor(2) as at:
        await at.hear(1, Request(5, "load", "n"))
        await at.hear(2, Request(6, "unload", "n"))
        await at.hear(2, Request(7, "load", "o"))
        assert at.workers[2].orders() == [("load", "n")]
        assert at.workers[1].orders() == [("load", "o")]
        await at.done(2)
        order = next(o for o in at.workers[1].heard if isinstance(o, Order) and o.model == "n")
        await at.hear(1, Done(order.id))
        assert at.workers[1].last(Answer) == Answer(5)
        assert ("unload", "n") in at.workers[1].orders()


async def test_what_was_admitted_is_handed_to_all_who_ask(tmp_path: Path) -> None:
    """The files come first, then the report; one proof is enough for all."""
    model = tmp_path / "model.onnx"
    model.write_bytes(b"a model")
    async with floor(2) as at, handover(at) as received:
        for number in (1, 2):
            await at.hear(number, Admit(number + 10, "n", 3, "files", {"path": "p"}))
        (prover,) = at.provers.all
        assert prover.order == {"path": "p"}
        outcome = admitted(model)
        at.provers.end(outcome)
        await settle()
        for number, worker in at.workers.items():
            assert worker.last(Answer) == Answer(number + 10, content=outcome.report)
            descriptor = received[number].collect(number + 10)
            assert os.pread(descriptor, 7, 0) == b"a model"
            os.close(descriptor)


async def test_what_is_refused_is_told_with_its_code() -> None:
    """And no files come."""
    async with floor(1) as at, handover(at) as received:
        await at.hear(1, Admit(5, "n", 3, "files", {}))
        at.provers.end(REFUSED)
        await settle()
        assert at.workers[1].last(Answer) == Answer(5, REFUSED.code, REFUSED.reason)
        with pytest.raises(ControlBroken):
            received[1].collect(5)


async def test_a_worker_that_is_started_again_serves_what_the_others_serve(tmp_path: Path) -> None:
    """Whatever lies on the disk meanwhile, until it has settled."""
    model = tmp_path / "model.onnx"
    model.write_bytes(b"a model")
    async with floor(2) as at, handover(at) as received:
        await at.hear(1, Admit(5, "m", 1, "files", {}))
        at.provers.end(admitted(model))
        await settle()
        model.write_bytes(b"damaged")
        at.seats[2].restarted, at.seats[2].settled = True, False
        await at.hear(2, Admit(6, "m", 1, "other files", {}))
        descriptor = received[2].collect(6)
        assert os.pread(descriptor, 7, 0) == b"a model"
        os.close(descriptor)
        assert len(at.provers.all) == 1


@asynccontextmanager
async def handover(at: Floor) -> AsyncIterator[dict[int, Handover]]:
    """Give every worker a process, and return what each of them receives."""
    ends: dict[int, Handover] = {}
    with ExitStack() as stack:
        for number, seat in at.seats.items():
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(ours)
            stack.enter_context(theirs)
            seat.child, ends[number] = child_with(ours), Handover(theirs)
        yield ends


def child_with(files: socket.socket) -> Child:
    """Return a worker of which only the socket for files matters."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return Child(process, files, files, files, -1)


async def test_a_model_is_synced_by_one_worker_first() -> None:
    """The others are told when it has done so, and tell of no failure that it has told of."""
    async with floor() as at:
        syncing = asyncio.create_task(at.desk.sync("m", Task(settling=("2",), retry=True)))
        await settle()
        first = at.workers[1].last(Order)
        assert (first.verb, first.settling, first.retry, first.quiet) == (
            "sync",
            ("2",),
            True,
            False,
        )
        assert at.workers[2].orders() == at.workers[3].orders() == []
        await at.done(1)
        assert at.workers[2].last(Order).quiet
        await at.done(2)
        await at.done(3)
        assert await syncing


async def test_a_sync_that_fails_somewhere_has_failed() -> None:
    """It is tried again, whoever has failed, and so is one that has ended its worker."""
    async with floor() as at:
        for failing in (1, 2):
            syncing = asyncio.create_task(at.desk.sync("m", Task()))
            await settle()
            for number in (1, 2, 3):
                code = "load_refused" if number == failing else ""
                await at.done(number, code, "failed to load 'm'" if code else "")
            assert not await syncing
        syncing = asyncio.create_task(at.desk.sync("m", Task()))
        await settle()
        at.die(1)
        assert not await syncing


async def test_a_worker_that_starts_later_knows_what_is_served() -> None:
    """Also when nobody else is left who could tell."""
    async with floor(2) as at:
        failed = VersionState("m", 2, "FAILED", "bad")
        for number in (1, 2):
            await at.hear(number, States(ready=True, settled=True, versions=(READY, failed)))
        for number in (1, 2):
            at.die(number)
            at.desk.post()
            await settle()
        start = at.desk.start_of(at.seats[1], threads=1, address="", settings={})
        assert start.known == (READY, failed)


async def test_what_came_with_a_request_is_kept_for_workers_that_start_later() -> None:
    """Until the next load or the end; a load that failed leaves nothing."""
    folders = UploadFolders()
    async with floor(1, folders) as at:
        for code, kept in (("load_refused", False), ("", True)):
            folder = folders.root / f"load-{kept}"
            folder.mkdir()
            await at.hear(1, Request(1, "load", "u", str(folder)))
            assert at.workers[1].last(Order).folder == str(folder)
            await at.done(1, code, "no" if code else "")
            assert folder.exists() is kept
        start = at.desk.start_of(at.seats[1], threads=1, address="", settings={})
        assert start.uploaded == (Uploaded("u", str(folders.of("u"))),)
        assert start.loaded == ("u",)
        assert Path(start.uploads) == folders.root
    assert not folders.root.exists()
