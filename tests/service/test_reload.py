"""Loading and unloading while requests run: nothing is lost, and nothing stays open."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping
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
from service.observer import BatchReport, NullObserver
from service.reloader import Control, IndexRow
from tests.support.loads import PATIENCE, GatedEngine, Rig, put_model, rig

EXPLICIT = Control("explicit")
ALL = Control("explicit", ("*",))


async def closed(engine: GatedEngine) -> None:
    """Wait until an engine is closed."""
    assert await asyncio.to_thread(engine.closed.wait, PATIENCE)


async def running(engine: GatedEngine) -> None:
    """Wait until a run of an engine has begun."""
    assert await asyncio.to_thread(engine.begun.wait, PATIENCE)


async def chance() -> None:
    """Give everything that may go on the chance to do so."""
    for _ in range(20):
        await asyncio.to_thread(lambda: None)


def states(made: Rig) -> dict[int, State]:
    """Return the states of model m's versions."""
    return {view.version: view.state for view in made.registry.views()}


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
        await chance()
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


async def test_one_of_several_versions_fails(tmp_path: Path) -> None:
    """The good ones are loaded; nothing is unloaded while the whole is not what was asked for."""
    model = put_model(tmp_path)
    async with rig(tmp_path, ALL) as made:
        put_model(tmp_path, versions=[2, 3])
        (model / "serving.toml").write_text("versions = {latest = 2}\nlabels = {stable = 2}")
        made.loads.broken = {3}
        with pytest.raises(LoadRefused, match="version 3: "):
            await made.reloader.load("m")
        assert states(made) == {1: State.READY, 2: State.READY, 3: State.FAILED}
        with pytest.raises(ModelNotFound):
            made.registry.version_of_label("m", "stable")
        made.loads.broken = set()
        await made.reloader.load("m")
        await chance()
        assert states(made) == {2: State.READY, 3: State.READY}
        assert made.registry.version_of_label("m", "stable") == 2


async def test_labels_move_when_the_load_is_done(tmp_path: Path) -> None:
    """Until then they name what they named before; what they do not name is not found."""
    model = put_model(tmp_path, versions=[1, 2])
    (model / "serving.toml").write_text("labels = {stable = 1}")
    async with rig(tmp_path, ALL) as made:
        assert made.registry.version_of_label("m", "stable") == 1
        assert await made.infer(made.registry.version_of_label("m", "stable")) in (1, 2)
        (model / "serving.toml").write_text("labels = {stable = 2}")
        assert made.registry.version_of_label("m", "stable") == 1
        await made.reloader.load("m")
        assert made.registry.version_of_label("m", "stable") == 2
        assert made.registry.view("m").rules.labels == {"stable": 2}
        for name, label in (("m", "canary"), ("x", "stable")):
            with pytest.raises(ModelNotFound, match=f"'{name}' label '{label}'"):
                made.registry.version_of_label(name, label)


async def test_a_label_of_what_has_drained_names_nothing(tmp_path: Path) -> None:
    """While another version still drains, the model is known but this version is not."""
    model = put_model(tmp_path, versions=[1, 2])
    (model / "serving.toml").write_text("labels = {stable = 1}")
    async with rig(tmp_path, ALL) as made:
        with made.registry.lease("m", 2):
            await made.reloader.unload("m")
            await asyncio.gather(*(closed(e) for e in made.loads.engines if e.version == 1))
            await chance()
            assert states(made) == {2: State.DRAINING}
            with pytest.raises(ModelNotFound):
                made.registry.version_of_label("m", "stable")


async def test_a_model_that_was_unloaded_begins_anew(tmp_path: Path) -> None:
    """Nothing is left of the rules that it had, even if not all of it can be loaded."""
    model = put_model(tmp_path, versions=[1, 2])
    (model / "serving.toml").write_text("labels = {stable = 1}")
    async with rig(tmp_path, ALL) as made:
        await made.reloader.unload("m")
        await chance()
        (model / "serving.toml").write_text("labels = {newest = 2, oldest = 1}")
        made.loads.broken = {1}
        with pytest.raises(LoadRefused):
            await made.reloader.load("m")
        assert made.registry.version_of_label("m", "newest") == 2
        with pytest.raises(ModelNotFound):
            made.registry.version_of_label("m", "stable")


async def test_a_broken_serving_file_stops_the_load_and_not_the_model(tmp_path: Path) -> None:
    """What answers goes on under the rules that it was loaded with."""
    model = put_model(tmp_path)
    (model / "serving.toml").write_text("labels = {stable = 1}")
    async with rig(tmp_path, ALL) as made:
        (model / "serving.toml").write_text("labels = 1")
        with pytest.raises(LoadRefused, match=r"serving\.toml: labels: expected"):
            await made.reloader.load("m")
        assert await made.infer(made.registry.version_of_label("m", "stable")) == 1


async def test_a_broken_serving_file_at_the_start_is_the_models_failure(tmp_path: Path) -> None:
    """The server runs and serves the others."""
    model = put_model(tmp_path)
    put_model(tmp_path, "other")
    (model / "serving.toml").write_text("labels = 1")
    async with rig(tmp_path, Control()) as made:
        view = made.registry.view("m")
        assert view.state is State.FAILED
        assert "serving.toml: labels" in view.reason
        assert await made.infer(name="other")


async def test_the_rules_say_how_much_must_be_proved(tmp_path: Path) -> None:
    """Verify of serving.toml stands in place of the server's for that model."""
    model = put_model(tmp_path)
    put_model(tmp_path, "other")
    (model / "serving.toml").write_text('verify = "off"')
    async with rig(tmp_path, EXPLICIT) as made:
        await made.reloader.load("m")
        await made.reloader.load("other")
        assert [options.verify for options in made.loads.options] == ["off", "enforce"]


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
        await chance()
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
        await chance()
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
        await chance()
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


async def test_notes_are_logged_once_and_kept_with_the_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However many versions a load has, a file that is ignored is one line."""
    model = put_model(tmp_path, versions=[1, 2, 3])
    (model / "serving.toml").write_text('versions = "all"')
    (model / "config.pbtxt").touch()
    with caplog.at_level(logging.WARNING, "onnxport.registry"):
        async with rig(tmp_path, Control()) as made:
            (note,) = (record.getMessage() for record in caplog.records)
            assert note.startswith("model m: config.pbtxt is ignored")
            assert made.registry.view("m", 1).info["notes"] == [note.removeprefix("model m: ")]


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
        await chance()
        assert observer.states == ["READY"]
        assert observer.rows == 2
    assert observer.states == ["READY", "DRAINING", "UNLOADED"]


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
