"""Where settings come from: flag > ONNXPORT_* variable > platform > onnxport.toml > default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.errors import ConfigurationError
from service.platforms import Hosting, Implied, Surroundings, hosting
from service.settings import ENV_PREFIX, Settings, setting_names

CONFIG_FILE = "onnxport.toml"


def load_settings(
    flags: Mapping[str, object],
    *,
    config: Path | None = None,
    kserve: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings; ``flags`` holds only what was really given on the command line.

    ``kserve`` holds the flags that KServe spells, without their dashes.  Raises ConfigurationError
    that names the key, where it was set and what is allowed.
    """
    _refuse_unknown_variables()
    file, path = _read_file(config)
    given: dict[str, Any] = {key: value for key, value in flags.items() if value is not None}
    asked = _asked_platform(given, file)
    host = _hosting(asked, given, file, kserve or {})
    for key, implied in host.flags.items():
        if key in given:
            raise ConfigurationError(f"give either --{key.replace('_', '-')} or {implied.origin}")
    arguments: dict[str, Any] = {**given, **_values(host.flags)}
    if asked == "auto":
        arguments["platform"] = host.platform.value
    arguments["_weaker"] = (_values(host.values), file, _values(host.fallback))
    try:
        return Settings(**arguments)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        # A setting that takes "auto" or a number has one reason for each.
        reasons = [e["msg"] for e in error.errors() if e["loc"][0] == key]
        reason = " or ".join(dict.fromkeys(text.removeprefix("Value error, ") for text in reasons))
        raise ConfigurationError(
            f"{_origin(key, given, host, path)}: {reason}, got {_shown(first['input'])}"
        ) from error


def _asked_platform(given: Mapping[str, object], file: Mapping[str, object]) -> str:
    ours = (given.get("platform"), os.environ.get(f"{ENV_PREFIX}PLATFORM"), file.get("platform"))
    return next((str(value) for value in ours if value is not None), "auto")


def _hosting(
    asked: str, given: Mapping[str, object], file: Mapping[str, object], kserve: Mapping[str, str]
) -> Hosting:
    named = "repository" in given or "repository" in file
    around = Surroundings(
        environment=os.environ,
        kserve=kserve,
        repository_given=named or f"{ENV_PREFIX}REPOSITORY" in os.environ,
    )
    return hosting(around, asked)


def _values(implied: Mapping[str, Implied]) -> dict[str, object]:
    return {key: one.value for key, one in implied.items()}


def _refuse_unknown_variables() -> None:
    for name in sorted(os.environ):
        if name.startswith(ENV_PREFIX):
            key = name.removeprefix(ENV_PREFIX).lower()
            if key not in Settings.model_fields and key != "config":
                raise ConfigurationError(f"{name}: unknown variable{_suggestion(key, ENV_PREFIX)}")


def _read_file(config: Path | None) -> tuple[dict[str, object], Path]:
    """Return the file's keys; a file that was asked for must be there."""
    variable = os.environ.get(f"{ENV_PREFIX}CONFIG")
    asked = config or (Path(variable) if variable else None)
    path = asked or Path(CONFIG_FILE)
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError as error:
        if asked is None:
            return {}, path
        raise ConfigurationError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error
    for key in content:
        if key not in Settings.model_fields:
            raise ConfigurationError(f"{path}: unknown key '{key}'{_suggestion(key)}")
    return content, path


def _suggestion(key: str, prefix: str = "") -> str:
    close = get_close_matches(key, Settings.model_fields, n=1)
    if close:
        word = f"{prefix}{close[0].upper()}" if prefix else close[0]
        return f"; did you mean {word}?"
    known = (f"{prefix}{name.upper()}" if prefix else name for name in setting_names())
    return f"; known are {', '.join(known)}"


def _origin(key: str, given: Mapping[str, object], host: Hosting, file: Path) -> str:
    """Say where a value came from, in the words that the operator or the platform used."""
    if key in given:
        return f"--{key.replace('_', '-')}"
    if key in host.flags:
        return host.flags[key].origin
    variable = f"{ENV_PREFIX}{key.upper()}"
    if variable in os.environ:
        return variable
    return host.values[key].origin if key in host.values else f"{file}: {key}"


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
