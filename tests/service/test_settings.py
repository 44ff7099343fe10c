"""Settings: where they come from, and what is said about wrong ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.access_settings import is_loopback
from service.errors import ConfigurationError
from service.settings import Settings
from service.sources import load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Begin without variables and without a file."""
    for name in list(os.environ):
        if name.startswith("ONNXPORT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refusal(flags: dict[str, object], config: Path | None = None) -> str:
    """Return the text with which settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(flags, config=config)
    return str(caught.value)


def test_defaults_listen_on_this_machine_only() -> None:
    """Without any setting the server is local, bounded and verifies what it loads."""
    settings = load_settings({})
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.repository == Path("models")
    assert settings.max_body_bytes == 64 << 20
    assert (settings.verify, settings.readiness) == ("enforce", "normal")
    assert (settings.deadline, settings.grace, settings.keep_alive) == (30, 30, 75)


def test_flag_beats_variable_beats_file_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source is asked only where the ones before it are silent."""
    Path("onnxport.toml").write_text("port = 1\nqueue_rows = 2\nmax_batch_rows = 3\n")
    monkeypatch.setenv("ONNXPORT_PORT", "10")
    monkeypatch.setenv("ONNXPORT_QUEUE_ROWS", "20")
    settings = load_settings({"port": "100", "queue_rows": None})
    assert (settings.port, settings.queue_rows, settings.max_batch_rows) == (100, 20, 3)
    assert settings.threads == "auto"


def test_the_file_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By flag or by variable; then ./onnxport.toml is not read."""
    Path("onnxport.toml").write_text("port = 1\n")
    Path("other.toml").write_text("queue_rows = 2\n")
    assert load_settings({}, config=Path("other.toml")).port == 8080
    monkeypatch.setenv("ONNXPORT_CONFIG", "other.toml")
    assert load_settings({}).queue_rows == 2


def test_lists_are_written_with_commas_or_as_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag and a variable carry text, a file a list."""
    Path("onnxport.toml").write_text('ready_requires = ["a", "b"]\n')
    monkeypatch.setenv("ONNXPORT_PROVIDERS", "cuda, cpu")
    monkeypatch.setenv("ONNXPORT_THREADS", "3")
    settings = load_settings({})
    assert settings.ready_requires == ("a", "b")
    assert settings.providers == ("cuda", "cpu")
    assert settings.threads == 3


def test_which_models_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk, or those that are named: a flag may be repeated."""
    assert (load_settings({}).model_control, load_settings({}).load_model) == ("poll", ())
    flags: dict[str, object] = {"model_control": "explicit", "load_model": ["a", "b,c"]}
    assert load_settings(flags).load_model == ("a", "b", "c")
    monkeypatch.setenv("ONNXPORT_LOAD_MODEL", "*")
    assert load_settings({"model_control": "explicit"}).load_model == ("*",)
    text = refusal({})
    assert "load_model *: needs model_control explicit" in text
    assert "'none', 'poll' or 'explicit'" in refusal({"model_control": "sometimes"})


def test_unknown_keys_are_refused_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip of the pen is found at start, not in production."""
    Path("onnxport.toml").write_text("prot = 1\n")
    assert refusal({}) == "onnxport.toml: unknown key 'prot'; did you mean port?"
    Path("onnxport.toml").write_text("zzz = 1\n")
    assert "known are repository, host" in refusal({})
    Path("onnxport.toml").unlink()
    monkeypatch.setenv("ONNXPORT_MAX_BODY_BITES", "1")
    assert refusal({}).endswith("did you mean ONNXPORT_MAX_BODY_BYTES?")


def test_wrong_values_are_named_with_their_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text says which flag, variable or key it was, what is allowed and what was seen."""
    assert refusal({"port": "99999"}).startswith("--port: ")
    assert "65535" in refusal({"port": "99999"})
    assert "'99999'" in refusal({"port": "99999"})
    assert "'tpu' is no provider; expected auto, or names" in refusal({"providers": "tpu"})
    assert "'auto' or " in refusal({"threads": "many"})
    assert "must begin with '/'" in refusal({"root_path": "ml"})
    monkeypatch.setenv("ONNXPORT_DEADLINE", "-1")
    assert refusal({}).startswith("ONNXPORT_DEADLINE: ")
    monkeypatch.delenv("ONNXPORT_DEADLINE")
    Path("onnxport.toml").write_text("deadline = inf\n")
    assert refusal({}).startswith("onnxport.toml: deadline: ")


def test_a_long_value_is_cut_in_the_text() -> None:
    """A whole file given by accident does not fill the terminal."""
    assert len(refusal({"port": "9" * 10_000})) < 300


def test_files_that_cannot_be_read() -> None:
    """A file that was asked for must be there and must be TOML."""
    assert refusal({}, Path("none.toml")) == "none.toml: no such file"
    Path("bad.toml").write_bytes(b"port = \xff")
    assert "not TOML" in refusal({}, Path("bad.toml"))
    Path("folder").mkdir()
    assert "folder: " in refusal({}, Path("folder"))


def test_other_addresses_need_a_word() -> None:
    """Everybody's access is a decision; the text names both ways to take it."""
    text = refusal({"host": "0.0.0.0"})
    assert "--allow-open" in text
    assert "ONNXPORT_ALLOW_OPEN=1" in text
    assert load_settings({"host": "0.0.0.0", "allow_open": True}).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("localhost.example.org", False),
    ],
)
def test_what_is_loopback(host: str, *, local: bool) -> None:
    """Only addresses that cannot be reached from outside count as local."""
    assert is_loopback(host) is local


def test_settings_cannot_be_changed() -> None:
    """What the server was started with stays."""
    with pytest.raises(ValidationError):
        load_settings({}).port = 1  # type: ignore[misc] # that it is refused is the point


def test_every_setting_says_what_it_is() -> None:
    """The help texts of the flags are these descriptions."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_platform_stands_between_our_variables_and_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flag, variable, platform, file: the platform opens the server without another word."""
    Path("onnxport.toml").write_text('port = 1\nqueue_rows = 2\nrepository = "mine"\n')
    monkeypatch.setenv("AIP_HTTP_PORT", "7080")
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/healthy")
    settings = load_settings({})
    assert (settings.platform, settings.host, settings.port) == ("vertex", "0.0.0.0", 7080)
    assert (settings.queue_rows, settings.repository) == (2, Path("mine"))
    assert settings.health_route == "/healthy"
    monkeypatch.setenv("ONNXPORT_PORT", "7081")
    monkeypatch.setenv("ONNXPORT_HOST", "127.0.0.1")
    assert (load_settings({}).host, load_settings({}).port) == ("127.0.0.1", 7081)
    assert load_settings({"port": "7082"}).port == 7082


@pytest.mark.parametrize("where", ["flag", "variable", "file"])
def test_models_are_where_we_say(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A repository of ours, wherever it is named, is not replaced by a platform's folder."""
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "7080")
    assert load_settings({}).repository == Path("/opt/ml/model")
    if where == "variable":
        monkeypatch.setenv("ONNXPORT_REPOSITORY", "mine")
    elif where == "file":
        Path("onnxport.toml").write_text('repository = "mine"\n')
    flags = {"repository": "mine"} if where == "flag" else {}
    settings = load_settings(flags)
    assert (settings.repository, settings.platform) == (Path("mine"), "sagemaker")


def test_a_platform_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `none` its variables are nobody's; a name that nobody knows is refused."""
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "7080")
    assert load_settings({"platform": "auto"}).platform == "sagemaker"
    settings = load_settings({"platform": "none"})
    assert (settings.platform, settings.host, settings.port) == ("none", "127.0.0.1", 8080)
    monkeypatch.setenv("ONNXPORT_PLATFORM", "heroku")
    assert refusal({}).startswith("ONNXPORT_PLATFORM: ")


def test_wrong_values_of_a_platform_are_named_as_the_platform_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The operator finds the variable or the flag that he wrote."""
    monkeypatch.setenv("AIP_HTTP_PORT", "http")
    assert refusal({}).startswith("AIP_HTTP_PORT: ")
    monkeypatch.setenv("AIP_HTTP_PORT", "7080")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/{name}")
    assert refusal({}).startswith("AIP_PREDICT_ROUTE: must begin with '/' and hold no braces")
    monkeypatch.delenv("AIP_PREDICT_ROUTE")
    with pytest.raises(ConfigurationError, match=r"^--http_port: .*'99999'"):
        load_settings({}, kserve={"http_port": "99999"})
    with pytest.raises(ConfigurationError, match=r"^--model_name: .*'a/b'"):
        load_settings({}, kserve={"model_name": "a/b"})


def test_flags_of_kserve_are_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """They beat variables, and the same thing cannot be said twice."""
    monkeypatch.setenv("ONNXPORT_PORT", "10")
    settings = load_settings({}, kserve={"http_port": "20", "model_name": "net"})
    assert (settings.port, settings.model_name, settings.platform) == (20, "net", "kserve")
    assert settings.repository == Path("/mnt/models")
    with pytest.raises(ConfigurationError, match="either --port or --http_port"):
        load_settings({"port": "1"}, kserve={"http_port": "2"})


def test_where_calibrations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is said, else in the user's cache; "none" is nowhere, as is the cache of nobody."""
    assert Settings(cache_dir="/var/kept").cache_folder == Path("/var/kept")
    assert Settings(cache_dir="none").cache_folder is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert Settings().cache_folder == Path("/some/cache/onnxport")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/me")
    assert Settings().cache_folder == Path("/home/me/.cache/onnxport")
