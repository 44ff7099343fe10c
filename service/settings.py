"""Settings of the server: flag > ONNXPORT_* variable > platform > onnxport.toml > default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.access_settings import AccessSettings, Names
from service.errors import ConfigurationError
from service.platforms import Hosting, Implied, Surroundings, hosting

ENV_PREFIX = "ONNXPORT_"
CONFIG_FILE = "onnxport.toml"

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Settings(AccessSettings):
    """Everything an operator may set; each field is a flag, a variable and a key of the file."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, validate_default=True
    )

    repository: Path = Field(
        Path("models"), description="A model repository, one bundle, or one .onnx file."
    )
    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(8080, ge=0, le=65_535, description="The port; 0 takes any free one.")
    root_path: str = Field("", description="The path that a proxy in front has cut off.")
    model_name: str = Field(
        "",
        pattern=r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$",
        description="The name of the model if it is the only one.",
    )
    platform: Literal["auto", "none", "kserve", "sagemaker", "vertex"] = Field(
        "auto", description="Whose hosting contract is kept; auto finds it out."
    )
    default_model: str = Field(
        "", description="The model that answers roads without a model in their path."
    )
    health_route: str = Field("", description="One more path that answers as /v2/health/ready.")
    predict_route: str = Field("", description="One more path that answers as /invocations.")
    max_body_bytes: int = Field(64 << 20, ge=1, le=4 << 30, description="The largest request body.")
    max_decompressed_bytes: int = Field(
        64 << 20, ge=1, le=4 << 30, description="The largest body after it is unpacked."
    )
    max_json_depth: int = Field(32, ge=4, le=1000, description="The deepest nesting of JSON.")
    max_batch_rows: int = Field(32, ge=1, le=65_536, description="The most rows of one run.")
    queue_rows: int = Field(
        1024, ge=1, le=1 << 24, description="The most rows that wait for one model."
    )
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="Runs at once; auto is the cores that this process may use."
    )
    providers: Literal["auto"] | Names = Field(
        "auto", description="Execution providers in order of preference, such as cuda,cpu."
    )
    verify: Literal["enforce", "advisory", "off"] = Field(
        "enforce", description="What a bundle that fails its own proof means."
    )
    model_control: Literal["none", "explicit"] = Field(
        "none", description="None: all models at the start; explicit: what is asked for."
    )
    load_model: Names = Field(
        (), description="With model_control explicit, the models to load at the start, * for all."
    )
    readiness: Literal["normal", "strict"] = Field(
        "normal", description="Strict: the server is ready only if every model is."
    )
    ready_requires: Names = Field((), description="Models without which the server is not ready.")
    deadline: Seconds = Field(30, description="Seconds that a request may take.")
    grace: Seconds = Field(30, description="Seconds that requests may still take at the end.")
    keep_alive: Seconds = Field(75, description="Seconds that an idle connection stays open.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important message that is written."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="JSON lines, text, or text only where a person looks on."
    )
    access_log: bool = Field(default=True, description="Write one line for every request.")

    @field_validator("threads", mode="before")
    @classmethod
    def _number_from_text(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdecimal() else value

    @field_validator("providers", "ready_requires", "load_model", mode="before")
    @classmethod
    def _names_from_text(cls, value: object) -> object:
        """Read "cuda,cpu" as a flag or a variable carries it; a flag may be given repeatedly."""
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or value == "auto":
            return value
        if not all(isinstance(text, str) for text in texts):
            return value
        return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())

    @field_validator("providers")
    @classmethod
    def _known_providers(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if value == "auto" or (value and set(value) <= {"cpu", "cuda"}):
            return value
        raise ValueError("expected auto, or names among cpu and cuda")

    @field_validator("root_path")
    @classmethod
    def _absolute_or_empty(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError("must begin with '/'")
        return value.rstrip("/")

    @field_validator("health_route", "predict_route")
    @classmethod
    def _a_plain_path(cls, value: str) -> str:
        """Refuse what would be a template, a query or no path at all."""
        if value and (not value.startswith("/") or set(value) & set("{}?#") or not value.isascii()):
            raise ValueError("must begin with '/' and hold no braces, '?' or '#'")
        return value

    @model_validator(mode="after")
    def _closed_unless_said(self) -> Self:
        self.refuse_open(self.host)
        if self.admin_port is not None:
            self.refuse_open(self.admin_host)
            if self.admin_port == self.port != 0:
                raise ConfigurationError(f"admin_port {self.port}: port has the same number")
        return self

    @model_validator(mode="after")
    def _named_models_need_control(self) -> Self:
        if self.load_model and self.model_control != "explicit":
            raise ConfigurationError(
                f"load_model {','.join(self.load_model)}: needs model_control explicit; with "
                f"{self.model_control} every model is loaded"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put what `load_settings` passes along as weaker sources behind the environment."""
        del dotenv_settings, file_secret_settings
        given: dict[str, Any] = dict(init_settings())
        weaker = given.pop("_weaker", ())
        return (
            InitSettingsSource(settings_cls, given),
            env_settings,
            *(InitSettingsSource(settings_cls, source) for source in weaker),
        )


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings, what is served first and who may use it last."""
    of_access = AccessSettings.model_fields
    return tuple(sorted(Settings.model_fields, key=lambda name: name in of_access))


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
