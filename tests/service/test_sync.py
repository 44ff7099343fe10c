"""What is live follows the disk: loads, swaps and unloads because files have changed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from service.errors import LoadRefused, ModelNotFound
from service.fingerprints import WHOLE
from service.lifecycle import State
from service.planning import Control
from tests.support.loads import Rig, closed, put_model, rig, running, settled, states

POLL = Control("poll")


def change(repository: Path, version: int = 1) -> None:
    """Give a version other files."""
    with (repository / "m" / str(version) / "model.onnx").open("a") as file:
        file.write("x")


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error."""
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


async def test_nothing_has_changed(tmp_path: Path) -> None:
    """Nothing is loaded again."""
    put_model(tmp_path)
    async with rig(tmp_path, POLL) as made:
        await made.reloader.sync("m")
        await made.reloader.sync(WHOLE)
        assert made.loads.count == 1


async def test_a_new_version_is_loaded_beside_and_the_old_one_drains(tmp_path: Path) -> None:
    """Who has begun with the old one is answered by it."""
    put_model(tmp_path)
    async with rig(tmp_path, POLL) as made:
        (old,) = made.loads.engines
        old.gate.clear()
        before = asyncio.create_task(made.infer())
        await running(old)
        put_model(tmp_path, versions=[2])
        await made.reloader.sync("m")
        assert await made.infer() == 2
        assert states(made) == {1: State.DRAINING, 2: State.READY}
        old.gate.set()
        assert await before == 1
        await closed(old)


async def test_files_that_are_others_now(tmp_path: Path) -> None:
    """The version is loaded again, and swapped."""
    put_model(tmp_path)
    async with rig(tmp_path, POLL) as made:
        change(tmp_path)
        await made.reloader.sync("m")
        assert await made.infer() == 2
        await made.reloader.sync("m")
        assert made.loads.count == 2


async def test_a_version_that_is_removed_drains(tmp_path: Path) -> None:
    """The next one takes over; with the last the model is gone."""
    model = put_model(tmp_path, versions=[1, 2])
    async with rig(tmp_path, POLL) as made:
        (model / "2" / "model.onnx").unlink()
        (model / "2").rmdir()
        await made.reloader.sync("m")
        assert await made.infer() == 2
        await settled(made)
        assert states(made) == {1: State.READY}
        (model / "1" / "model.onnx").unlink()
        (model / "1").rmdir()
        await made.reloader.sync("m")
        await settled(made)
        with pytest.raises(ModelNotFound):
            await made.infer()


async def test_a_repository_that_has_gone_unloads_nothing(tmp_path: Path) -> None:
    """It is an error of the disk and no wish."""
    put_model(tmp_path / "repository")
    async with rig(tmp_path / "repository", POLL) as made:
        (tmp_path / "repository").rename(tmp_path / "away")
        for unit in ("m", WHOLE):
            with pytest.raises(Exception, match="no such"):
                await made.reloader.sync(unit)
        assert states(made) == {1: State.READY}


async def test_a_version_that_is_settling_is_not_there_yet(tmp_path: Path) -> None:
    """Neither is it loaded nor does its coming unload another, whatever the rules say."""
    model = put_model(tmp_path)
    async with rig(tmp_path, POLL) as made:
        put_model(tmp_path, versions=[2])
        await made.reloader.sync("m", settling=["2"])
        assert states(made) == {1: State.READY}
        (model / "serving.toml").write_text("versions = {specific = [2]}\nlabels = {stable = 2}")
        await made.reloader.sync("m", settling=["2"])
        assert states(made) == {1: State.READY}
        await made.reloader.sync("m")
        await settled(made)
        assert states(made) == {2: State.READY}
        assert made.registry.version_of_label("m", "stable") == 2


async def test_the_last_version_stays_until_the_next_one_has_settled(tmp_path: Path) -> None:
    """It has gone from the disk, and answers as long as there is nothing to take its place."""
    model = put_model(tmp_path)
    async with rig(tmp_path, POLL) as made:
        put_model(tmp_path, versions=[2])
        (model / "1" / "model.onnx").unlink()
        (model / "1").rmdir()
        await made.reloader.sync("m", settling=["2"])
        assert await made.infer() == 1
        await made.reloader.sync("m")
        assert await made.infer() == 2
        await settled(made)
        assert states(made) == {2: State.READY}


async def test_a_served_version_that_is_settling_stays_as_it_is(tmp_path: Path) -> None:
    """What is in memory answers while its files are overwritten."""
    put_model(tmp_path)
    async with rig(tmp_path, POLL) as made:
        change(tmp_path)
        await made.reloader.sync("m", settling=["1"])
        assert (await made.infer(), made.loads.count) == (1, 1)


async def test_rules_are_applied_without_a_load_where_none_is_needed(tmp_path: Path) -> None:
    """Labels and versions; how a model runs needs a load."""
    model = put_model(tmp_path, versions=[1, 2])
    async with rig(tmp_path, POLL) as made:
        (model / "serving.toml").write_text('versions = "all"\nlabels = {stable = 1}')
        await made.reloader.sync("m")
        assert states(made) == {1: State.READY, 2: State.READY}
        assert (made.loads.count, made.registry.version_of_label("m", "stable")) == (2, 1)
        (model / "serving.toml").write_text('versions = "all"\nverify = "off"')
        await made.reloader.sync("m")
        assert made.loads.count == 4
        assert {options.verify for options in made.loads.options[2:]} == {"off"}


async def test_rules_that_cannot_be_read_leave_everything_as_it_is(tmp_path: Path) -> None:
    """The reason is to be seen at what is served."""
    model = put_model(tmp_path, versions=[1, 2])
    (model / "serving.toml").write_text('versions = "all"')
    async with rig(tmp_path, POLL) as made:
        (model / "serving.toml").write_text("versions =")
        with pytest.raises(LoadRefused, match="not TOML"):
            await made.reloader.sync("m")
        assert states(made) == {1: State.READY, 2: State.READY}
        assert "not TOML" in made.registry.view("m", 2).reason


async def test_a_failed_candidate_is_tried_again_when_asked_or_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The old version serves all the while; each failure is told once."""
    put_model(tmp_path)
    async with rig(tmp_path, POLL) as made:
        put_model(tmp_path, versions=[2])
        made.loads.broken = {2}
        for retry, count in ((False, 2), (False, 2), (True, 3), (True, 4)):
            with pytest.raises(LoadRefused, match="version 2 is broken"):
                await made.reloader.sync("m", retry=retry)
            assert made.loads.count == count
            assert await made.infer() == 1
        assert errors(caplog) == ["model m version 2: version 2 is broken"]
        change(tmp_path, 2)
        with pytest.raises(LoadRefused):
            await made.reloader.sync("m")
        assert len(errors(caplog)) == 2
        change(tmp_path, 2)
        made.loads.broken = set()
        await made.reloader.sync("m")
        await settled(made)
        assert states(made) == {2: State.READY}


async def test_a_failed_replacement_is_not_tried_again_either(tmp_path: Path) -> None:
    """Files that were refused once are refused while they stay the same."""
    put_model(tmp_path)
    async with rig(tmp_path, POLL) as made:
        change(tmp_path)
        made.loads.broken = {1}
        for _ in range(3):
            with pytest.raises(LoadRefused, match="its replacement failed"):
                await _refused_again(made)
        assert made.loads.count == 2
        assert states(made) == {1: State.READY}
        made.loads.broken = set()
        await made.reloader.sync("m", retry=True)
        assert (await made.infer(), made.registry.view("m").reason) == (3, "")


async def _refused_again(made: Rig) -> None:
    """Sync until the reason is the one that is kept."""
    try:
        await made.reloader.sync("m")
    except LoadRefused as error:
        if "its replacement failed" in str(error):
            raise
        await made.reloader.sync("m")


async def test_files_that_change_while_they_are_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever came of it says nothing of the files as they are now, and is no error."""
    put_model(tmp_path)
    async with rig(tmp_path, POLL) as made:
        await made.loads.until_begun()
        put_model(tmp_path, versions=[2])
        for broken in (False, True):
            made.loads.broken = {2} if broken else set()
            made.loads.gate.clear()
            syncing = asyncio.create_task(made.reloader.sync("m", retry=True))
            await made.loads.until_begun()
            change(tmp_path, 2)
            made.loads.gate.set()
            with pytest.raises(LoadRefused, match="its files changed while they were loaded"):
                await syncing
            assert states(made) == {1: State.READY, 2: State.FAILED}
            assert await made.infer() == 1
        assert errors(caplog) == []
        assert made.loads.engines[1].closed.is_set()
        made.loads.broken = set()
        await made.reloader.sync("m")
        assert await made.infer() == 4


async def test_one_file_as_the_repository(tmp_path: Path) -> None:
    """It is the whole, and is loaded again when it changes."""
    put_model(tmp_path)
    async with rig(tmp_path / "m" / "1" / "model.onnx", POLL) as made:
        change(tmp_path)
        await made.reloader.sync(WHOLE)
        assert made.loads.count == 2
