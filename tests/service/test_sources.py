"""Where each setting comes from, and secrets, which stand in files and are shown nowhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from service.__main__ import main
from service.errors import ConfigurationError
from service.settings import setting_names
from service.sources import MASK, Source, Traced, load_settings, trace_settings

HEADERS = "authorization=Bearer abc"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Begin without variables and without a file."""
    for name in list(os.environ):
        if name.startswith("ONNXPORT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refusal() -> str:
    """Return the text with which settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings({})
    return str(caught.value)


def traced(name: str, **flags: object) -> Traced:
    """Return one setting with its source."""
    (found,) = (one for one in trace_settings(flags) if one.name == name)
    return found


def test_each_value_is_shown_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The strongest source that said something, in the words in which it said it."""
    assert traced("port") == Traced("port", 8080, Source.DEFAULT, "")
    Path("onnxport.toml").write_text("port = 1\n")
    assert traced("port") == Traced("port", 1, Source.FILE, "onnxport.toml: port")
    monkeypatch.setenv("AIP_HTTP_PORT", "2")
    assert traced("port") == Traced("port", 2, Source.PLATFORM, "AIP_HTTP_PORT")
    monkeypatch.setenv("ONNXPORT_PORT", "3")
    assert traced("port") == Traced("port", 3, Source.ENVIRONMENT, "ONNXPORT_PORT")
    assert traced("port", port="4") == Traced("port", 4, Source.FLAG, "--port")


def test_a_platform_that_was_found_out_is_told() -> None:
    """Nobody has set it, yet it is no default."""
    assert traced("platform") == Traced("platform", "none", Source.DEFAULT, "")
    kserve = {"model_name": "m", "model_dir": "/x"}
    by_name = {one.name: one for one in trace_settings({}, kserve=kserve)}
    assert by_name["platform"] == Traced("platform", "kserve", Source.PLATFORM, "found out")
    assert by_name["model_name"] == Traced("model_name", "m", Source.FLAG, "--model_name")
    assert by_name["host"].origin == "KServe"


def test_every_setting_is_traced() -> None:
    """In the order in which they are documented."""
    assert [one.name for one in trace_settings({})] == list(setting_names())


def test_a_secret_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Docker and Kubernetes mount them, with a newline at the end; it beats onnxport.toml."""
    Path("onnxport.toml").write_text('otlp_headers = "a=b"\n')
    Path("secret").write_text(f"{HEADERS}\n")
    monkeypatch.setenv("ONNXPORT_OTLP_HEADERS_FILE", "secret")
    assert load_settings({}).otlp_headers == HEADERS
    assert traced("otlp_headers").origin == "ONNXPORT_OTLP_HEADERS_FILE"
    monkeypatch.setenv("ONNXPORT_OTLP_HEADERS", "c=d")
    assert refusal() == "give either ONNXPORT_OTLP_HEADERS or ONNXPORT_OTLP_HEADERS_FILE"


def test_a_secret_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is set can be seen, what it is cannot."""
    assert traced("otlp_headers").value == ""
    monkeypatch.setenv("ONNXPORT_OTLP_HEADERS", HEADERS)
    assert traced("otlp_headers").value == MASK
    Path("onnxport.toml").write_text("otlp_headers = 77\n")
    monkeypatch.delenv("ONNXPORT_OTLP_HEADERS")
    assert "77" not in refusal()


def test_keys_are_a_secret_with_a_file_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their file is a setting, since it is read anew as it changes; its name is no secret."""
    monkeypatch.setenv("ONNXPORT_KEYS", "keys = []")
    monkeypatch.setenv("ONNXPORT_KEYS_FILE", "keys.toml")
    assert traced("keys").value == MASK
    assert traced("keys_file").value == Path("keys.toml")
    assert traced("keys_file").origin == "ONNXPORT_KEYS_FILE"


def test_secret_files_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable and the file are named; only secrets have such a variable."""
    monkeypatch.setenv("ONNXPORT_OTLP_HEADERS_FILE", "none")
    assert refusal() == "ONNXPORT_OTLP_HEADERS_FILE: none: No such file or directory"
    Path("none").write_bytes(b"\xff")
    assert refusal() == "ONNXPORT_OTLP_HEADERS_FILE: none is not UTF-8"
    monkeypatch.delenv("ONNXPORT_OTLP_HEADERS_FILE")
    monkeypatch.setenv("ONNXPORT_PORT_FILE", "none")
    assert "unknown variable" in refusal()


def test_config_show_writes_toml_and_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person reads lines that could stand in onnxport.toml, a program reads JSON."""
    monkeypatch.setenv("ONNXPORT_OTLP_HEADERS", HEADERS)
    for output in ("text", "json"):
        with pytest.raises(SystemExit) as ended:
            main(["config", "show", "--providers", "cpu", "--output", output])
        assert ended.value.code in (0, None)
    out, _ = capsys.readouterr()
    text, _, document = out.partition("{\n")
    assert "Bearer" not in out
    assert 'repository = "models"' in text
    (line,) = (line for line in text.splitlines() if line.startswith("providers"))
    assert line.split("#")[0].strip() == 'providers = ["cpu"]'
    assert line.endswith("# --providers")
    rows = json.loads("{" + document)["settings"]
    assert {"name": "providers", "value": ["cpu"], "source": "flag", "origin": "--providers"} in (
        rows
    )
