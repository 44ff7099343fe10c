"""What a model's serving.toml means while the server runs: versions, labels, proof."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from service.errors import (
    LoadRefused,
    ModelNotFound,
)
from service.lifecycle import State
from service.planning import Control
from tests.support.loads import chance, closed, put_model, rig, states

EXPLICIT = Control("explicit")
ALL = Control("explicit", ("*",))


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
