"""What the server says when it starts, and the socket it listens on."""

from __future__ import annotations

import shlex
from pathlib import Path

import orjson
import pytest

from service.errors import ConfigurationError
from service.repository import scan
from service.settings import Settings
from service.worker import (
    address_of,
    announce,
    example_call,
    listen,
    listen_all,
    with_ports,
)
from tests.support import models


def test_the_address_is_the_one_that_was_given_out() -> None:
    """Port 0 takes a free port, and the address names it; IPv6 goes into brackets."""
    with listen("127.0.0.1", 0) as listener:
        assert address_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
    with listen("::1", 0) as listener:
        assert address_of(listener).startswith("http://[::1]:")


def test_an_address_that_cannot_be_had() -> None:
    """The text names the address and the flags."""
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1:80.*--host"):
        listen("192.0.2.1", 80)


def test_the_message_for_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Address, models, a call for each kind of input and the way out, without colours in a file."""
    models.picture_bundle(tmp_path)
    models.series_bundle(tmp_path)
    models.text_bundle(tmp_path)
    settings = Settings(repository=tmp_path, log_format="text")
    announce(settings, scan(tmp_path), "http://h:1")
    text = capsys.readouterr().err
    assert "http://h:1" in text
    assert "Models: pictures, series, texts" in text
    assert text.count("curl ") == 4
    assert "Ctrl-C" in text
    assert "\033" not in text


def test_the_message_without_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty repository says how to fill it."""
    announce(Settings(repository=tmp_path, log_format="text"), [], "http://h:1")
    assert "onnxport-train" in capsys.readouterr().err


def test_the_message_of_a_server_that_waits_to_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where models are loaded on request, it says how."""
    settings = Settings(repository=tmp_path, log_format="text", model_control="explicit")
    announce(settings, [], "http://h:1")
    text = capsys.readouterr().err
    assert "curl -X POST http://h:1/v2/repository/models/NAME/load" in text
    assert "onnxport-train" not in text


def test_the_message_of_a_server_that_asks_for_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every call has a place for one."""
    models.series_bundle(tmp_path)
    settings = Settings(repository=tmp_path, log_format="text", keys="key = []")
    announce(settings, scan(tmp_path), "https://h:1")
    text = capsys.readouterr().err
    assert text.count("curl ") == text.count('curl -H "X-API-Key: $KEY" ') == 2


def test_the_admin_port_is_one_more_listener(tmp_path: Path) -> None:
    """Roads are told apart by the ports that were really taken."""
    settings = Settings(repository=tmp_path, port=0, admin_port=0)
    main, admin = listen_all(settings)
    with main, admin:
        taken = with_ports(settings, [main, admin])
        assert (taken.port, taken.admin_port) == (main.getsockname()[1], admin.getsockname()[1])
        assert address_of(admin, secure=True) == f"https://127.0.0.1:{taken.admin_port}"
        busy = Settings(repository=tmp_path, port=0, admin_port=taken.admin_port)
        with pytest.raises(ConfigurationError, match="--admin-port"):
            listen_all(busy)
    (only,) = listen_all(Settings(repository=tmp_path, port=0))
    only.close()


def test_a_model_with_several_versions_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is what callers use; the newest version says what a call looks like."""
    for version in (1, 2):
        models.write_doubler(tmp_path / "m" / str(version) / "model.onnx")
    announce(Settings(repository=tmp_path, log_format="text"), scan(tmp_path), "http://h:1")
    text = capsys.readouterr().err
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
