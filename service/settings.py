"""Settings of the server: what an operator may set, and what is allowed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.access_settings import SECRET, AccessSettings, Names
from service.errors import ConfigurationError
from service.providers import normal_names

ENV_PREFIX = "ONNXPORT_"

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Settings(AccessSettings):
    """Everything an operator may set; each field is a flag, a variable and a key of the file."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, validate_default=True
    )

    repository: Path = Field(
        Path("models"),
        description="A model repository, one bundle, one .onnx file, or an s3, gs or http URL.",
    )
    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(8080, ge=0, le=65_535, description="The port; 0 takes any free one.")
    uds: str = Field(
        "", max_length=100, description="A Unix socket to listen on instead of host and port."
    )
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
    max_head_bytes: int = Field(
        64 << 10, ge=1024, le=1 << 20, description="The largest head of a request."
    )
    max_headers: int = Field(100, ge=10, le=10_000, description="The most headers of a request.")
    max_connections: int = Field(
        10_000, ge=1, le=1_000_000, description="The most connections at once in each worker."
    )
    max_bytes_in_flight: int = Field(
        256 << 20,
        ge=1 << 20,
        le=1 << 40,
        description="The most bytes of bodies held at once in each worker.",
    )
    max_decompressed_bytes: int = Field(
        64 << 20, ge=1, le=4 << 30, description="The largest body after it is unpacked."
    )
    max_json_depth: int = Field(32, ge=4, le=1000, description="The deepest nesting of JSON.")
    max_batch_rows: int = Field(32, ge=1, le=65_536, description="The most rows of one run.")
    queue_rows: int = Field(
        1024, ge=1, le=1 << 24, description="The most rows that wait for one model."
    )
    queue_bytes: int = Field(
        256 << 20, ge=1, le=64 << 30, description="The most bytes that wait for one model."
    )
    max_wait_ms: float = Field(
        0, ge=0, le=10_000, description="Milliseconds that a batch waits for more rows."
    )
    profile: Literal["throughput", "latency"] = Field(
        "throughput",
        description="Throughput: one thread a run; latency: all cores for one run at a time.",
    )
    cache_dir: str = Field(
        "", description="Where calibrations are kept; none for nowhere (default: your cache)."
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = Field(
        "auto",
        description="Processes that answer; auto is one a core, or one for a GPU.",
    )
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto", description="Runs at once in each worker; auto is the usable cores by the workers."
    )
    providers: Literal["auto"] | Names = Field(
        "auto", description="Execution providers in order of preference, such as cuda,cpu."
    )
    strict_placement: bool = Field(
        default=False,
        description="Refuse a model of which a part would run on the CPU beside another provider.",
    )
    verify: Literal["enforce", "advisory", "off"] = Field(
        "enforce", description="What a bundle that fails its own proof means."
    )
    admission_timeout: Seconds = Field(
        30, description="Seconds that the proof of one version may take."
    )
    admission_memory: int = Field(
        0,
        ge=0,
        le=1 << 50,
        description="Bytes that the proof of one version may take beside its files; 0: a share.",
    )
    quarantine_deaths: int = Field(
        3, ge=1, le=100, description="How often in ten minutes a model may end its worker."
    )
    hang_timeout: Seconds = Field(
        10, description="Seconds without a sign of life after which a worker is replaced."
    )
    memory_limit: Literal["auto"] | Annotated[int, Field(ge=0, le=1 << 50)] = Field(
        "auto",
        description="Bytes that each worker may use, 0 for any number; auto is its share of four "
        "fifths of what there is, and any number where CUDA is used.",
    )
    model_control: Literal["none", "poll", "explicit"] = Field(
        "poll",
        description="Poll: what is on disk; none: the same, but only at the start; explicit: what "
        "is asked for.",
    )
    remote_interval: Seconds = Field(
        15, description="Seconds between looks at a repository that is somewhere else."
    )
    poll_interval: float = Field(
        1, ge=0.05, le=86_400, description="Seconds between looks at the repository."
    )
    load_model: Names = Field(
        (), description="With model_control explicit, the models to load at the start, * for all."
    )
    readiness: Literal["normal", "strict"] = Field(
        "normal", description="Strict: the server is ready only if every model is."
    )
    ready_requires: Names = Field((), description="Models without which the server is not ready.")
    deadline: Seconds = Field(30, description="Seconds that a request may take.")
    drain_delay: float = Field(
        5, ge=0, le=3_600, allow_inf_nan=False,
        description="Seconds for which SIGTERM says not ready and still takes what comes.",
    )  # fmt: skip
    grace: Seconds = Field(30, description="Seconds that requests may still take at the end.")
    keep_alive: Seconds = Field(75, description="Seconds that an idle connection stays open.")
    head_timeout: Seconds = Field(10, description="Seconds in which a head must have come.")
    body_timeout: Seconds = Field(
        10, description="Seconds after which a body that does not move is given up."
    )
    min_body_rate: int = Field(
        1024, ge=0, le=1 << 30, description="Bytes a second at which a long body must come."
    )
    read_timeout: Seconds = Field(
        10, description="Seconds after which a caller that takes no answer is given up."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important message that is written."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="JSON lines, text, or text only where a person looks on."
    )
    access_log: bool = Field(default=True, description="Write one line for every request.")
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Where traces are sent, as OTLP over HTTP; nowhere if empty.",
    )
    otlp_headers: str = Field(
        "",
        description="Headers for it, as name=value,name=value.",
        json_schema_extra=SECRET,
    )
    trace_ratio: float = Field(
        1,
        ge=0,
        le=1,
        description="How many traces that begin here are sent; a caller's own choice is kept.",
    )

    @field_validator("threads", "workers", "memory_limit", mode="before")
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
        return value if isinstance(value, str) else normal_names(value)

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
        if not self.uds:
            self.refuse_open(self.host)
        if self.admin_port is not None:
            self.refuse_open(self.admin_host)
            if self.admin_port == self.port != 0 and not self.uds:
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

    @property
    def remote(self) -> str:
        """The URL of a repository in an object store or on a web server, "" for a path."""
        # A path has lost one of the two strokes.
        found = re.fullmatch(r"(s3|gs|gcs|https?):/+(.+)", str(self.repository))
        return f"{found[1]}://{found[2]}" if found else ""

    @property
    def cache_folder(self) -> Path | None:
        """The folder for what a restart need not find out again; None to keep nothing."""
        if self.cache_dir:
            return None if self.cache_dir == "none" else Path(self.cache_dir)
        home = os.environ.get("XDG_CACHE_HOME", "")
        try:
            cache = Path(home) if home.startswith("/") else Path.home() / ".cache"
        except RuntimeError:
            # A user without a home, as in many containers.
            return None
        return cache / "onnxport"

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


def is_secret(name: str) -> bool:
    """Whether a setting's value must not be shown."""
    extra = Settings.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and extra.get("secret") is True


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings, what is served first and who may use it last."""
    of_access = AccessSettings.model_fields
    return tuple(sorted(Settings.model_fields, key=lambda name: name in of_access))
