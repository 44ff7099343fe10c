"""Requests to load and unload: their turns, their refusals, and how a model leaves."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from service.errors import (
    ControlDisabled,
    LoadRefused,
    ModelNotFound,
    ModelNotReady,
    NotInRepository,
)
from service.lifecycle import State
from service.planning import Control, IndexRow
from tests.support.loads import chance, closed, put_model, rig, running, settled, states

EXPLICIT = Control("explicit")
ALL = Control("explicit", ("*",))


async def test_a_model_drains_when_it_is_unloaded(tmp_path: Path) -> None:
    """The answer does not wait for it; nobody new gets in, those within are answered."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        (engine,) = made.loads.engines
        engine.gate.clear()
        within = asyncio.create_task(made.infer())
        await running(engine)
        await made.reloader.unload("m")
        assert await made.reloader.index() == [IndexRow("m", 1, State.DRAINING)]
        with pytest.raises(ModelNotReady, match="DRAINING"):
            await made.infer()
        engine.gate.set()
        assert await within == 1
        await closed(engine)
        await settled(made)
        assert await made.reloader.index() == [IndexRow("m", 1, State.UNLOADED, "unloaded")]
        assert made.registry.views() == ()
        assert made.registry.ready()


async def test_a_model_can_be_loaded_while_its_forerunner_drains(tmp_path: Path) -> None:
    """The new engine answers; what the old one still owes it pays."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        (old,) = made.loads.engines
        old.gate.clear()
        within = asyncio.create_task(made.infer())
        await running(old)
        await made.reloader.unload("m")
        await made.reloader.load("m")
        assert await made.infer() == 2
        old.gate.set()
        assert await within == 1
        await closed(old)
        await settled(made)
        assert states(made) == {1: State.READY}
        assert await made.reloader.index() == [IndexRow("m", 1, State.READY)]


async def test_a_model_that_is_loaded_again_is_no_longer_unloaded(tmp_path: Path) -> None:
    """The index says what is, not what was: the version that went is not listed any more."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        await made.reloader.unload("m")
        put_model(tmp_path, versions=[2])
        await made.reloader.load("m")
        await chance()
        assert await made.reloader.index() == [IndexRow("m", 2, State.READY)]


async def test_unloading_needs_neither_the_files_nor_the_model(tmp_path: Path) -> None:
    """Who cleans up deletes the folder first; a name that nobody knows is as good as unloaded."""
    model = put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        shutil.rmtree(model)
        await made.reloader.unload("m")
        await made.reloader.unload("stranger")
        await closed(made.loads.engines[0])
        await settled(made)
        assert await made.reloader.index() == []


async def test_a_failed_model_can_be_unloaded(tmp_path: Path) -> None:
    """Its reason goes with it."""
    put_model(tmp_path)
    async with rig(tmp_path, EXPLICIT) as made:
        made.loads.broken = {1}
        with pytest.raises(LoadRefused):
            await made.reloader.load("m")
        assert not made.registry.ready()
        await made.reloader.unload("m")
        await chance()
        assert await made.reloader.index() == [IndexRow("m", 1, State.UNLOADED, "unloaded")]
        assert made.registry.ready()


async def test_what_is_not_on_disk_cannot_be_loaded(tmp_path: Path) -> None:
    """Neither a stranger nor a path, nor anything once the repository is gone."""
    put_model(tmp_path / "models")
    async with rig(tmp_path / "models", ALL) as made:
        for name in ("stranger", "../models/m", "m/1", ""):
            with pytest.raises(NotInRepository, match=f"^failed to load '{name}'"):
                await made.reloader.load(name)
        shutil.rmtree(tmp_path / "models")
        with pytest.raises(NotInRepository):
            await made.reloader.load("m")
        assert await made.infer() == 1


async def test_with_control_none_nothing_changes_by_request(tmp_path: Path) -> None:
    """Everything was loaded at the start; the index still tells what has come since."""
    put_model(tmp_path)
    async with rig(tmp_path, Control()) as made:
        put_model(tmp_path, "late")
        for call in (made.reloader.load("m"), made.reloader.unload("m")):
            with pytest.raises(ControlDisabled, match="model_control is none"):
                await call
        rows = await made.reloader.index()
        assert rows == [IndexRow("late"), IndexRow("m", 1, State.READY)]
        assert await made.infer() == 1


async def test_loads_and_unloads_of_one_model_take_turns(tmp_path: Path) -> None:
    """Whoever comes second waits for the first, and finds what that one has left."""
    put_model(tmp_path)
    async with rig(tmp_path, EXPLICIT) as made:
        made.loads.gate.clear()
        calls = [made.reloader.load("m"), made.reloader.load("m"), made.reloader.unload("m")]
        tasks = [asyncio.create_task(call) for call in calls]
        await made.loads.until_begun()
        await chance()
        assert made.loads.count == 1
        assert not any(task.done() for task in tasks)
        made.loads.gate.set()
        await asyncio.gather(*tasks)
        for engine in made.loads.engines:
            await closed(engine)
        await settled(made)
        assert made.loads.count == 2
        with pytest.raises(ModelNotFound):
            await made.infer()


async def test_a_request_may_come_before_the_start_had_its_turn(tmp_path: Path) -> None:
    """What it has loaded is not loaded over again by the start."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL, tried=False) as made:
        await made.reloader.load("m")
        await made.until_tried()
        assert await made.infer() == 1
        assert made.loads.count == 1


async def test_loads_of_two_models_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Both have begun before either has ended."""
    put_model(tmp_path, "a")
    put_model(tmp_path, "b")
    async with rig(tmp_path, EXPLICIT) as made:
        made.loads.gate.clear()
        tasks = [asyncio.create_task(made.reloader.load(name)) for name in ("a", "b")]
        await made.loads.until_begun()
        await made.loads.until_begun()
        made.loads.gate.set()
        await asyncio.gather(*tasks)
        assert made.registry.ready()


async def test_the_load_goes_on_when_the_caller_has_gone(tmp_path: Path) -> None:
    """What was begun is ended: half a load would leave a state that nobody asked for."""
    put_model(tmp_path)
    async with rig(tmp_path, EXPLICIT) as made:
        made.loads.gate.clear()
        caller = asyncio.create_task(made.reloader.load("m"))
        await made.loads.until_begun()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        made.loads.gate.set()
        await made.reloader.aclose()
        assert await made.infer() == 1


async def test_a_surprise_is_told_and_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The version is FAILED instead of loading for ever, and the next load has its turn."""
    put_model(tmp_path)
    async with rig(tmp_path, EXPLICIT) as made:
        made.loads.surprise = RuntimeError("a bug")
        with pytest.raises(RuntimeError, match="a bug"):
            await made.reloader.load("m")
        assert made.registry.view("m").reason == "internal error while loading"
        assert "unforeseen" in caplog.text
        made.loads.surprise = None
        await made.reloader.load("m")
        assert await made.infer() == 2


async def test_the_end_of_the_server_waits_for_loads_and_closes_everything(tmp_path: Path) -> None:
    """No engine stays open, and nothing is loaded any more."""
    put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        made.loads.gate.clear()
        asking = asyncio.create_task(made.reloader.load("m"))
        await made.loads.until_begun()
        await made.loads.until_begun()
        closing = asyncio.create_task(made.reloader.aclose())
        await chance()
        assert not closing.done()
        made.loads.gate.set()
        await closing
        await asking
    assert [engine.closed.is_set() for engine in made.loads.engines] == [True, True]
    assert not made.registry.ready()
    with pytest.raises(ModelNotReady, match="shutting down"):
        await made.reloader.load("m")
    with pytest.raises(ModelNotReady):
        await made.infer()
