"""What the server says when it starts."""

from __future__ import annotations

import shlex
from pathlib import Path

import orjson
import pytest

from service.announcement import announcement, announcement_text, example_call
from service.repository import scan
from service.settings import Settings
from tests.support import models


def test_the_message_for_a_person(tmp_path: Path) -> None:
    """Address, models, a call for each kind of input and the way out, without colours in a file."""
    models.picture_bundle(tmp_path)
    models.series_bundle(tmp_path)
    models.text_bundle(tmp_path)
    settings = Settings(repository=tmp_path, log_format="text")
    text = announcement_text(settings, scan(tmp_path), "http://h:1", colours=False)
    assert "http://h:1" in text
    assert "Models: pictures, series, texts" in text
    assert text.count("curl ") == 4
    assert "Ctrl-C" in text
    assert "\033" not in text
    assert "\033" in announcement_text(settings, scan(tmp_path), "http://h:1", colours=True)


def test_the_message_without_models(tmp_path: Path) -> None:
    """An empty repository says how to fill it."""
    settings = Settings(repository=tmp_path)
    assert "onnxport-train" in announcement_text(settings, [], "http://h:1", colours=False)


def test_the_message_of_a_server_that_waits_to_be_told(tmp_path: Path) -> None:
    """Where models are loaded on request, it says how."""
    settings = Settings(repository=tmp_path, log_format="text", model_control="explicit")
    text = announcement_text(settings, [], "http://h:1", colours=False)
    assert "curl -X POST http://h:1/v2/repository/models/NAME/load" in text
    assert "onnxport-train" not in text


def test_the_message_of_a_server_that_asks_for_keys(tmp_path: Path) -> None:
    """Every call has a place for one."""
    models.series_bundle(tmp_path)
    settings = Settings(repository=tmp_path, log_format="text", keys="key = []")
    text = announcement_text(settings, scan(tmp_path), "https://h:1", colours=False)
    assert text.count("curl ") == text.count('curl -H "X-API-Key: $KEY" ') == 2


def test_a_model_with_several_versions_is_named_once(tmp_path: Path) -> None:
    """Its name is what callers use; the newest version says what a call looks like."""
    for version in (1, 2):
        models.write_doubler(tmp_path / "m" / str(version) / "model.onnx")
    settings, found = Settings(repository=tmp_path), scan(tmp_path)
    text = announcement_text(settings, found, "http://h:1", colours=False)
    assert announcement(settings, found, "http://h:1")["models"] == ["m"]
    assert "Models: m\n" in text
    assert text.count("curl http://h:1/v2/models/m\n") == 1


def test_calls_fit_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instances in a call are what the model takes; a picture beside a checkout is named."""
    monkeypatch.chdir(tmp_path)
    models.picture_bundle(tmp_path)
    models.series_bundle(tmp_path)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "a boot.png").write_bytes(b"")
    picture, series = (example_call(one, "http://h:1") for one in scan(tmp_path))
    assert "@examples/a boot.png" in shlex.split(picture)
    words = shlex.split(series)
    body = orjson.loads(words[words.index("-d") + 1])
    assert body == {"instances": [[[0.0, 0.0], [0.0, 0.0]]]}


def test_models_that_tell_nothing_get_their_metadata(tmp_path: Path) -> None:
    """A bare file and a damaged bundle have no example, but a road that answers."""
    models.write_doubler(tmp_path / "bare.onnx")
    bundle = models.text_bundle(tmp_path)
    (bundle.path / "bundle.json").write_text("{}")
    assert [example_call(one, "http://h:1") for one in scan(tmp_path)] == [
        "curl http://h:1/v2/models/bare",
        "curl http://h:1/v2/models/texts",
    ]
