"""Each version is proved once for all who ask, and kept for who comes later."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.admission import Limits, Outcome
from service.gate import Gate
from tests.support.proving import REFUSED, Provers, admitted, is_open
from tests.support.runtime import settle

KEY = ("m", 1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the only file of a version."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model")
    return path


@pytest.fixture
def provers() -> Provers:
    """Return what starts children."""
    return Provers()


def overwrite(file: Path) -> None:
    """Change a file."""
    file.write_bytes(b"another model")


def ask(
    gate: Gate, asker: str, claim: str = "files", *, again: bool = False, version: int = 1
) -> asyncio.Task[Outcome]:
    """Have a process ask for a version."""
    work = gate.ask(("m", version), claim, {"version": version}, asker=asker, again=again)
    return asyncio.create_task(work)


async def test_all_who_ask_share_one_proof(provers: Provers, file: Path) -> None:
    """While it goes on and afterwards, as long as the files are the same."""
    gate = Gate(Limits(), at_once=2, start=provers)
    early = [ask(gate, "one"), ask(gate, "two")]
    await settle()
    outcome = admitted(file)
    provers.end(outcome)
    assert [await one for one in early] == [outcome] * 2
    assert await ask(gate, "three") is outcome
    assert await ask(gate, "one") is outcome
    assert len(provers.all) == 1


async def test_changed_files_are_proved_anew(provers: Provers, file: Path) -> None:
    """Also where who asks has not noticed that one of them has changed."""
    gate = Gate(Limits(), at_once=2, start=provers)
    first = ask(gate, "one")
    await settle()
    provers.end(admitted(file))
    before = (await first).descriptor
    overwrite(file)
    second = ask(gate, "two")
    await settle()
    provers.end(admitted(file))
    after = (await second).descriptor
    assert before is not None
    assert after is not None
    assert not is_open(before)
    assert gate.kept() == {KEY: after}
    ask(gate, "three", "other options")
    await settle()
    assert len(provers.all) == 3


async def test_a_refusal_is_told_to_all_once(provers: Provers) -> None:
    """Who asks a second time has it tried again, and the others hear of that."""
    gate = Gate(Limits(), at_once=2, start=provers)
    first = ask(gate, "one")
    await settle()
    provers.end(REFUSED)
    assert await first == await ask(gate, "two") == REFUSED
    assert len(provers.all) == 1
    retry = ask(gate, "two")
    await settle()
    assert len(provers.all) == 2
    provers.end(Outcome("load_timeout", "late"))
    assert (await retry).code == (await ask(gate, "one")).code == "load_timeout"
    assert len(provers.all) == 2


async def test_a_refusal_leaves_what_was_admitted(provers: Provers, file: Path) -> None:
    """Who starts again gets what the others serve, whatever lies on the disk now."""
    gate = Gate(Limits(), at_once=2, start=provers)
    first = ask(gate, "one")
    await settle()
    serving = admitted(file)
    provers.end(serving)
    await first
    overwrite(file)
    second = ask(gate, "one", "damaged files")
    await settle()
    provers.end(REFUSED)
    assert await second == REFUSED
    assert await ask(gate, "restarted", "damaged files", again=True) is serving


async def test_files_that_change_while_they_are_proved(provers: Provers, file: Path) -> None:
    """Everybody gets the outcome of the latest claim, and nothing stays open of the other."""
    gate = Gate(Limits(), at_once=2, start=provers)
    first = ask(gate, "one", "early")
    await settle()
    second = ask(gate, "two", "late")
    await settle()
    early, late = admitted(file), admitted(file)
    provers.end(early)
    await settle()
    assert not first.done()
    provers.end(late)
    assert await first is late
    assert await second is late
    assert early.descriptor is not None
    assert not is_open(early.descriptor)


async def test_only_so_many_proofs_at_once(provers: Provers) -> None:
    """The others wait for their turn."""
    gate = Gate(Limits(), at_once=2, start=provers)
    waiting = [ask(gate, "one", version=version) for version in (1, 2, 3)]
    await settle()
    assert [one.order for one in provers.all] == [{"version": 1}, {"version": 2}]
    provers.end(REFUSED)
    await settle()
    assert provers.all[2].order == {"version": 3}
    for _ in range(2):
        provers.end(REFUSED)
        await settle()
    assert [(await one).code for one in waiting] == ["golden_mismatch"] * 3


async def test_children_that_wait_for_an_order(provers: Provers) -> None:
    """They are used before others are started, and ended if nobody needs them."""
    gate = Gate(Limits(), at_once=2, start=provers)
    gate.warm_up(2)
    asked = ask(gate, "one")
    await settle()
    assert len(provers.all) == 2
    provers.end(REFUSED)
    await asked
    await gate.cool_down()
    assert [one.discarded for one in provers.all if one.order is None] == [True]


async def test_proofs_stand_back_once_somebody_is_served(provers: Provers) -> None:
    """At the start nobody is, and the sooner they end the better."""
    gate = Gate(Limits(), at_once=2, start=provers)
    gate.warm_up(0)
    ask(gate, "one", version=1)
    await settle()
    await gate.cool_down()
    ask(gate, "one", version=2)
    await settle()
    assert [one.limits for one in provers.ordered] == [Limits(nice=0), Limits()]


async def test_what_is_live_nowhere_is_given_back(provers: Provers, file: Path) -> None:
    """But not before it was live, and not while anybody serves it."""
    gate = Gate(Limits(), at_once=2, start=provers)
    asked = ask(gate, "one")
    await settle()
    provers.end(admitted(file))
    descriptor = (await asked).descriptor
    assert descriptor is not None
    gate.settle(set())
    gate.settle({KEY})
    assert is_open(descriptor)
    gate.settle({("other", 1)})
    assert not is_open(descriptor)
    assert gate.kept() == {}
    ask(gate, "one")
    await settle()
    assert len(provers.all) == 2


async def test_the_end_of_the_server(provers: Provers) -> None:
    """Proofs end at once, those that have not begun never do, and who waits hears why."""
    gate = Gate(Limits(), at_once=1, start=provers)
    waiting = [ask(gate, "one", version=version) for version in (1, 2)]
    await settle()
    gate.close()
    for one in waiting:
        assert (await one).code == "model_not_ready"
    assert len(provers.all) == 1
