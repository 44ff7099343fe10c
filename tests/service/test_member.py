"""One worker among several, with a supervisor that a test speaks for."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from service.blackbox import BlackBox, make_memory
from service.control import (
    Answer,
    Ask,
    Board,
    Condemn,
    Culprit,
    Decoder,
    Done,
    Drain,
    Emptied,
    Figures,
    Message,
    Order,
    Request,
    Start,
    States,
    VersionState,
    encode,
)
from service.errors import ControlBroken, ModelNotFound, ModelNotReady, Reported
from service.fingerprints import fingerprint_of
from service.guarded import Quarantine
from service.lifecycle import State
from service.link import Link
from service.member import Member, SharedModels, SharedRepository
from service.metrics import Metrics
from service.planning import Control
from service.statistics import Statistics
from tests.support.loads import PATIENCE, Loads, Rig, put_model, rig

T = TypeVar("T", bound=Message)
START = Start(1, 1, "http://h:1", {})
ALL = Control("explicit", ("*",))


class Supervisor:
    """The other end of the control socket."""

    def __init__(self, end: socket.socket) -> None:
        """Keep the socket."""
        self._end = end
        self._decoder = Decoder()
        self._heard: list[Message] = []

    async def say(self, message: Message) -> None:
        """Send a message."""
        await asyncio.get_running_loop().sock_sendall(self._end, encode(message))

    async def hear(self, kind: type[T]) -> T:
        """Wait for the next message of a kind; others are passed over."""
        async with asyncio.timeout(PATIENCE):
            while True:
                while self._heard:
                    message = self._heard.pop(0)
                    if isinstance(message, kind):
                        return message
                data = await asyncio.get_running_loop().sock_recv(self._end, 1 << 16)
                self._heard += self._decoder.feed(data)


@dataclass(frozen=True, slots=True)
class Office:
    """A worker's part, its runtime, and the supervisor's end."""

    member: Member
    made: Rig
    supervisor: Supervisor

    @property
    def models(self) -> SharedModels:
        """The models as all workers have them."""
        return SharedModels(self.made.registry, self.member)


@asynccontextmanager
async def office(repository: Path) -> AsyncIterator[Office]:
    """Run a worker's part over a runtime whose loads need no ONNX."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    memory = make_memory()
    with ours, theirs:
        loads = Loads()
        quarantine = Quarantine(BlackBox(memory), prepare=loads.prepare)
        member = Member(START, Link(ours), quarantine)
        async with rig(repository, ALL, observer=member, loads=loads, load=quarantine.load) as made:
            member.join(made.registry, made.reloader, Metrics("0"), Statistics())
            listening = asyncio.create_task(member.link.listen(member.hear))
            supervisor = Supervisor(theirs)
            # Who has answered listens, and may be spoken to.
            await supervisor.say(Ask(1))
            await supervisor.hear(Figures)
            yield Office(member, made, supervisor)
            theirs.close()
            await listening
    os.close(memory)


def test_the_first_message_must_be_the_first() -> None:
    """A worker that does not know what to do ends."""
    for sent, reason in ((b"", "has gone"), (encode(Ask(1)), "got Ask")):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(sent)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(ControlBroken, match=reason):
                Link(ours).start()


async def test_a_worker_that_is_told_to_leave_is_not_ready(tmp_path: Path) -> None:
    """Its models are, and go on answering."""
    put_model(tmp_path)
    async with office(tmp_path) as at:
        assert at.models.ready()
        await at.supervisor.say(Drain())
        await at.supervisor.say(Ask(2))
        await at.supervisor.hear(Figures)
        assert (at.models.ready(), at.models.leaving) == (False, True)
        assert at.models.view("m").state is State.READY
        at.member.emptied()
        assert await at.supervisor.hear(Emptied) == Emptied()


async def test_states_are_told_when_they_change(tmp_path: Path) -> None:
    """With the reason, and whether the first loads have ended."""
    put_model(tmp_path)
    async with office(tmp_path) as at:
        at.member.tell()
        told = await at.supervisor.hear(States)
        assert told == States(ready=True, settled=True, versions=(VersionState("m", 1, "READY"),))


async def test_an_order_is_done_before_it_is_said_to_be(tmp_path: Path) -> None:
    """The states of after are told first; an error comes with its code and text."""
    put_model(tmp_path)
    async with office(tmp_path) as at:
        await at.supervisor.say(Order(7, "unload", "m"))
        told = await at.supervisor.hear(States)
        assert all(version.state != "READY" for version in told.versions)
        assert await at.supervisor.hear(Done) == Done(7)
        await at.supervisor.say(Order(8, "load", "nobody"))
        done = await at.supervisor.hear(Done)
        assert (done.id, done.code) == (8, "model_not_found")
        assert "'nobody'" in done.text


async def test_figures_are_told_when_asked(tmp_path: Path) -> None:
    """All families and all rows."""
    async with office(tmp_path) as at:
        await at.supervisor.say(Ask(5))
        told = await at.supervisor.hear(Figures)
        assert told.id == 5
        assert {"onnxport_build"} < {family["name"] for family in told.content["families"]}


async def test_a_culprit_is_taken_out_of_service(tmp_path: Path) -> None:
    """It fails with the reason where its very files are loaded."""
    put_model(tmp_path)
    async with office(tmp_path) as at:
        (view,) = at.made.registry.views()
        print_of = fingerprint_of(tmp_path / "m" / "1")
        await at.supervisor.say(Condemn(Culprit("m", 1, "others", "it died")))
        await at.supervisor.say(Ask(1))
        await at.supervisor.hear(Figures)
        assert view.state is State.READY
        await at.supervisor.say(Condemn(Culprit("m", 1, print_of, "it died")))
        while (told := await at.supervisor.hear(States)).versions[0].state == "READY":
            pass
        assert told.versions == (VersionState("m", 1, "FAILED", "it died", "quarantined"),)


async def test_a_request_gets_its_own_answer(tmp_path: Path) -> None:
    """Whatever the order of the answers; an error there is an error here."""
    async with office(tmp_path) as at:
        link, supervisor = at.member.link, at.supervisor
        first = asyncio.create_task(link.request("figures"))
        second = asyncio.create_task(link.request("load", "m"))
        asked = [await supervisor.hear(Request), await supervisor.hear(Request)]
        assert [(one.verb, one.model) for one in asked] == [("figures", ""), ("load", "m")]
        await supervisor.say(Answer(asked[1].id, "load_refused", "failed to load 'm'"))
        await supervisor.say(Answer(asked[0].id, content={"live": {}}))
        with pytest.raises(Reported, match="failed to load 'm'") as refused:
            await second
        assert refused.value.code == "load_refused"
        assert (await first).content == {"live": {}}


async def test_without_a_supervisor_nothing_is_promised(tmp_path: Path) -> None:
    """A request fails at once instead of waiting for ever."""
    async with office(tmp_path) as at:
        repository = SharedRepository(at.made.reloader, at.models, at.member)
        pending = asyncio.create_task(repository.load("m"))
        await at.supervisor.hear(Request)
    with pytest.raises(ModelNotReady):
        await pending
    with pytest.raises(ModelNotReady):
        await repository.unload("m")


async def test_models_are_as_bad_as_the_worst_worker(tmp_path: Path) -> None:
    """What others say is seen here, and what only others have, too."""
    put_model(tmp_path)
    async with office(tmp_path) as at:
        assert at.models.ready()
        failed = VersionState("m", 1, "FAILED", "it fell over there")
        other = VersionState("n", 4, "LOADING")
        await at.supervisor.say(Board(ready=False, versions=(failed, other)))
        await at.supervisor.say(Ask(1))
        await at.supervisor.hear(Figures)
        assert not at.models.ready()
        seen = [(v.name, v.version, v.state, v.reason) for v in at.models.views()]
        assert seen == [
            ("m", 1, State.FAILED, "it fell over there"),
            ("n", 4, State.LOADING, ""),
        ]
        assert at.models.view("m").inputs == at.made.registry.view("m").inputs
        with pytest.raises(ModelNotFound):
            at.models.view("m", 9)
