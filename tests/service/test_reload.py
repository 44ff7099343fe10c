"""Reloading while requests run: nothing is lost, and nothing stays open."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.errors import (
    BundleError,
    LoadRefused,
    ModelNotFound,
    ModelNotReady,
)
from service.lifecycle import State
from service.observer import BatchReport, NullObserver
from service.planning import Control
from tests.support.loads import chance, closed, put_model, rig, running, settled, states

ALL = Control("explicit", ("*",))


async def test_a_reload_under_load_loses_nothing(tmp_path: Path) -> None:
    """Those in flight are answered by the old engine, which closes after its last lease."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        (old,) = made.loads.engines
        old.gate.clear()
        before = [asyncio.create_task(made.infer()) for _ in range(20)]
        await running(old)
        await made.reloader.load("m")
        after = [await made.infer() for _ in range(5)]
        assert not old.closed.is_set()
        old.gate.set()
        assert await asyncio.gather(*before) == [1] * 20
        assert after == [2] * 5
        await closed(old)
        assert not made.loads.engines[1].closed.is_set()
        assert states(made) == {1: State.READY}


async def test_a_lease_keeps_the_engine_open_even_before_anything_runs(tmp_path: Path) -> None:
    """Who prepares its input meanwhile finds the model that it was given."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        (old,) = made.loads.engines
        with made.registry.lease("m"), made.registry.lease("m") as live:
            await made.reloader.load("m")
            await chance()
            assert not old.closed.is_set()
            assert live.loaded.engine is old
            assert await made.infer() == 2
        await closed(old)


async def test_reloads_in_a_row_under_a_stream_of_requests(tmp_path: Path) -> None:
    """Whenever a request comes, one engine answers it, and in the end one is left."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        done = asyncio.Event()

        async def ask() -> list[int]:
            answers = []
            while not done.is_set():
                answers.append(await made.infer())
            return answers

        askers = [asyncio.create_task(ask()) for _ in range(8)]
        for _ in range(10):
            await made.reloader.load("m")
        done.set()
        for answers in await asyncio.gather(*askers):
            assert answers == sorted(answers)
        for engine in made.loads.engines[:-1]:
            await closed(engine)
        assert await made.infer() == 11


async def test_a_newer_version_takes_over(tmp_path: Path) -> None:
    """The disk is looked at when the load is asked for; the older version is closed."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        put_model(tmp_path, versions=[2])
        await made.reloader.load("m")
        await closed(made.loads.engines[0])
        await settled(made)
        assert states(made) == {2: State.READY}
        with pytest.raises(ModelNotFound):
            await made.infer(1)


async def test_a_version_that_fails_leaves_the_old_one_serving(tmp_path: Path) -> None:
    """The caller and the index get the reason; a repaired version takes over later."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        put_model(tmp_path, versions=[2])
        made.loads.broken = {2}
        with pytest.raises(LoadRefused) as caught:
            await made.reloader.load("m")
        assert str(caught.value) == "failed to load 'm', version 2: version 2 is broken"
        assert states(made) == {1: State.READY, 2: State.FAILED}
        assert made.registry.view("m", 2).reason == "version 2 is broken"
        assert await made.infer() == 1
        made.loads.broken = set()
        await made.reloader.load("m")
        await chance()
        assert states(made) == {2: State.READY}


async def test_a_reload_that_fails_leaves_the_engine_it_would_have_replaced(tmp_path: Path) -> None:
    """The version is READY, with the reason why it is still the old one, until a load succeeds."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        made.loads.broken = {1}
        with pytest.raises(LoadRefused):
            await made.reloader.load("m")
        view = made.registry.view("m")
        assert (view.state, view.reason) == (
            State.READY,
            "its replacement failed: version 1 is broken",
        )
        assert await made.infer() == 1
        assert made.registry.ready()
        made.loads.broken = set()
        await made.reloader.load("m")
        assert made.registry.view("m").reason == ""
        assert await made.infer() == 3


async def test_a_version_that_leaves_no_longer_says_why_it_was_not_replaced(
    tmp_path: Path,
) -> None:
    """While it drains, its state is all there is to say: the reload that failed is over."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        made.loads.broken = {1}
        with pytest.raises(LoadRefused):
            await made.reloader.load("m")
        with made.registry.lease("m"):
            await made.reloader.unload("m")
            view = made.registry.view("m")
            assert (view.state, view.reason) == (State.DRAINING, "")
            with pytest.raises(ModelNotReady, match=r"it is DRAINING$"):
                made.registry.lease("m")


class Recorder(NullObserver):
    """Remembers the states that it is told."""

    def __init__(self) -> None:
        """Begin with none."""
        self.states: list[str] = []
        self.rows = 0

    def model_state(self, model: str, version: int, state: str) -> None:
        """Remember the state."""
        self.states.append(state)

    def batch(self, report: BatchReport) -> None:
        """Count the rows of both engines."""
        self.rows += report.rows

    def request(
        self, model: str, version: int, *, outcome: str, rows: int, seconds: Mapping[str, float]
    ) -> None:
        """Expect no failure."""
        assert outcome == "success"


async def test_observers_see_one_life_of_a_version_that_is_replaced(tmp_path: Path) -> None:
    """While it is reloaded the version is READY, so that its counters are not dropped."""
    put_model(tmp_path)
    observer = Recorder()
    async with rig(tmp_path, ALL, observer=observer) as made:
        observer.states.clear()
        await made.infer()
        await made.reloader.load("m")
        await made.infer()
        await closed(made.loads.engines[0])
        await settled(made)
        assert observer.states == ["READY"]
        assert observer.rows == 2
    assert observer.states == ["READY", "DRAINING", "UNLOADED"]


async def test_a_reason_can_be_shown_anywhere(tmp_path: Path) -> None:
    """Control bytes and halves of characters, which a file's name may hold, are written out."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        made.loads.surprise = BundleError("a\x1b[31m\udce9")
        with pytest.raises(LoadRefused, match=r"version 1: a\\x1b\[31m\\udce9$"):
            await made.reloader.load("m")
        assert repr(made.registry) == "<Registry 1 READY>"
