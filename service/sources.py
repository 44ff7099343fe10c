"""Where settings come from: flag > ONNXPORT_* variable > platform > onnxport.toml > default.

A secret's variable may name a file instead: ``ONNXPORT_<SECRET>_FILE``, as strong as the variable.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from service.errors import ConfigurationError
from service.platforms import Hosting, Implied, Surroundings, hosting
from service.settings import ENV_PREFIX, Settings, is_secret, setting_names

CONFIG_FILE = "onnxport.toml"
MASK: Final = "********"
_FILE: Final = "_FILE"
# More than any secret has, less than a disk that was named by mistake.
_SECRET_BYTES: Final = 64 << 10


class Source(StrEnum):
    """What kind of source a value comes from."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    PLATFORM = "platform"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Traced:
    """One setting as it holds: ``origin`` is its source in the operator's or platform's words.

    A secret's value is a mask, or empty where it is not set.
    """

    name: str
    value: object
    source: Source
    origin: str


@dataclass(frozen=True, slots=True)
class _Given:
    """Everything that was said, by source; ``asked`` is the platform that was asked for."""

    flags: Mapping[str, Any]
    secrets: Mapping[str, Implied]
    host: Hosting
    asked: str
    file: Mapping[str, object]
    path: Path

    def source(self, key: str) -> tuple[Source, str]:
        """Return where a setting comes from, and its name there."""
        variable = f"{ENV_PREFIX}{key.upper()}"
        host = self.host
        # The strongest first.
        sources: tuple[tuple[Source, Mapping[str, str]], ...] = (
            (Source.FLAG, {name: f"--{name.replace('_', '-')}" for name in self.flags}),
            (Source.FLAG, _origins(host.flags)),
            (Source.ENVIRONMENT, {key: variable} if variable in os.environ else {}),
            (Source.ENVIRONMENT, _origins(self.secrets)),
            (Source.PLATFORM, _origins(host.values)),
            (Source.FILE, {name: f"{self.path}: {name}" for name in self.file}),
            (Source.PLATFORM, _origins(host.fallback)),
        )
        found = ((source, origins[key]) for source, origins in sources if key in origins)
        return next(found, (Source.DEFAULT, ""))


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
    return _settings(_gather(flags, config, kserve))


def trace_settings(
    flags: Mapping[str, object],
    *,
    config: Path | None = None,
    kserve: Mapping[str, str] | None = None,
) -> list[Traced]:
    """Return every setting with its source, in the order of `Settings`.

    Takes and raises what `load_settings` does.
    """
    given = _gather(flags, config, kserve)
    settings = _settings(given)
    return [_traced(name, getattr(settings, name), given) for name in setting_names()]


def _traced(name: str, value: object, given: _Given) -> Traced:
    source, origin = given.source(name)
    if is_secret(name) and value:
        value = MASK
    elif name == "platform" and given.asked == "auto" and value != "none":
        source, origin = Source.PLATFORM, "found out"
    return Traced(name, value, source, origin)


def _gather(
    flags: Mapping[str, object], config: Path | None, kserve: Mapping[str, str] | None
) -> _Given:
    _refuse_unknown_variables()
    file, path = _read_file(config)
    given: dict[str, Any] = {key: value for key, value in flags.items() if value is not None}
    asked = _asked_platform(given, file)
    host = _hosting(asked, given, file, kserve or {})
    for key, implied in host.flags.items():
        if key in given:
            raise ConfigurationError(f"give either --{key.replace('_', '-')} or {implied.origin}")
    return _Given(given, _read_secrets(), host, asked, file, path)


def _settings(given: _Given) -> Settings:
    host = given.host
    arguments: dict[str, Any] = {**given.flags, **_values(host.flags)}
    if given.asked == "auto":
        arguments["platform"] = host.platform.value
    arguments["_weaker"] = (
        _values(given.secrets),
        _values(host.values),
        given.file,
        _values(host.fallback),
    )
    try:
        return Settings(**arguments)
    except ValidationError as error:
        raise ConfigurationError(_refusal(error, given)) from error


def _refusal(error: ValidationError, given: _Given) -> str:
    first = error.errors()[0]
    key = str(first["loc"][0])
    # A setting that takes "auto" or a number has one reason for each.
    reasons = [e["msg"] for e in error.errors() if e["loc"][0] == key]
    reason = " or ".join(dict.fromkeys(text.removeprefix("Value error, ") for text in reasons))
    origin = given.source(key)[1] or key
    # The value of a secret stands in no log.
    seen = "" if is_secret(key) else f", got {_shown(first['input'])}"
    return f"{origin}: {reason}{seen}"


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


def _origins(implied: Mapping[str, Implied]) -> dict[str, str]:
    return {key: one.origin for key, one in implied.items()}


def _refuse_unknown_variables() -> None:
    for name in sorted(os.environ):
        if name.startswith(ENV_PREFIX):
            key = name.removeprefix(ENV_PREFIX).lower()
            known = key in Settings.model_fields or key == "config" or _secret_of(name)
            if not known:
                raise ConfigurationError(f"{name}: unknown variable{_suggestion(key, ENV_PREFIX)}")


def _secret_of(variable: str) -> str:
    """Return the secret whose file a variable names, "" if it is no such variable."""
    key = variable.removeprefix(ENV_PREFIX).removesuffix(_FILE).lower()
    names_file = variable.endswith(_FILE) and f"{key}{_FILE.lower()}" not in Settings.model_fields
    return key if names_file and key in Settings.model_fields and is_secret(key) else ""


def _read_secrets() -> dict[str, Implied]:
    """Return the secrets that variables name a file for, as a mounted secret is one."""
    secrets = {}
    for variable, file in os.environ.items():
        key = _secret_of(variable) if variable.startswith(ENV_PREFIX) else ""
        if not key:
            continue
        if f"{ENV_PREFIX}{key.upper()}" in os.environ:
            raise ConfigurationError(f"give either {ENV_PREFIX}{key.upper()} or {variable}")
        try:
            with Path(file).open("rb") as secret:
                text = secret.read(_SECRET_BYTES).decode()
        except OSError as error:
            raise ConfigurationError(f"{variable}: {file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{variable}: {file} is not UTF-8") from error
        secrets[key] = Implied(text.strip(), variable)
    return secrets


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


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
