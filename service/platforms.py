"""The hosting platforms' contracts: what their variables and flags say, as values of settings.

Nothing is read here: `service.settings` passes in what there is and puts the answer between its own
sources.  Flags of KServe are as strong as ours; all else that a platform says is weaker than an
``ONNXPORT_*`` variable and stronger than the file, which was written before the platform was known.
Only the models' place is ours to say: a platform's folder counts where no setting names one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from service.errors import ConfigurationError

KSERVE_FLAGS: Mapping[str, str] = {
    "model_name": "model_name",
    "model_dir": "repository",
    "http_port": "port",
}
# KServe's own servers take these, and runtimes are copied from them; here they mean nothing.
KSERVE_IGNORED = (
    "access_log_format",
    "configure_logging",
    "enable_docs_url",
    "enable_grpc",
    "enable_latency_logging",
    "grpc_port",
    "log_config_file",
    "max_asyncio_workers",
    "max_threads",
    "protocol",
)
KSERVE_REFUSED: Mapping[str, str] = {
    "predictor_host": "this server is a predictor; it calls no other one as a transformer would",
}

_EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - a platform reaches its containers from outside
_KSERVE_FOLDER = Path("/mnt/models")
_SAGEMAKER_FOLDER = Path("/opt/ml/model")
_DEFAULT_FOLDER = Path("models")
_USUAL_FOLDERS = (Path("/models"), _KSERVE_FOLDER, _SAGEMAKER_FOLDER)
_GCS_MOUNT = Path("/gcs")
_VERTEX_ROUTES = {"AIP_HEALTH_ROUTE": "health_route", "AIP_PREDICT_ROUTE": "predict_route"}
_VERTEX_VARIABLES = ("AIP_HTTP_PORT", "AIP_STORAGE_URI", *_VERTEX_ROUTES)
# The one later in this table wins where two mean the same setting.
_SAGEMAKER_VARIABLES = {
    "SAGEMAKER_BIND_TO_PORT": "port",
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": "max_body_bytes",
    "SAGEMAKER_MODEL_SERVER_WORKERS": "workers",
    "SAGEMAKER_MODEL_SERVER_TIMEOUT": "deadline",
    "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "deadline",
    "SAGEMAKER_CONTAINER_LOG_LEVEL": "log_level",
    "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "default_model",
}
_SAGEMAKER_SIGNS = (
    *_SAGEMAKER_VARIABLES,
    "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
    "SAGEMAKER_MULTI_MODEL",
    "SAGEMAKER_SAFE_PORT_RANGE",
    "SAGEMAKER_STARTUP_TIMEOUT",
)
# SageMaker counts levels as Python's logging does.
_LEVELS = {"10": "debug", "20": "info", "30": "warning", "40": "error", "50": "error"}


class Platform(StrEnum):
    """Whose contract is kept."""

    NONE = "none"
    KSERVE = "kserve"
    SAGEMAKER = "sagemaker"
    VERTEX = "vertex"


TITLES: Mapping[str, str] = {
    Platform.KSERVE: "KServe",
    Platform.SAGEMAKER: "SageMaker",
    Platform.VERTEX: "Vertex AI",
}


@dataclass(frozen=True, slots=True)
class Implied:
    """The value of one setting, and where it comes from in the platform's words."""

    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a platform may speak through.

    ``kserve`` holds KServe's flags without their dashes; ``repository_given`` says that a flag, a
    variable or the file of ours names the models already.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    kserve: Mapping[str, str] = field(default_factory=dict)
    repository_given: bool = False
    exists: Callable[[Path], bool] = Path.exists


@dataclass(frozen=True, slots=True)
class Hosting:
    """What the surroundings mean, by setting; ``fallback`` is weaker than the file."""

    platform: Platform
    flags: Mapping[str, Implied]
    values: Mapping[str, Implied]
    fallback: Mapping[str, Implied]


def hosting(around: Surroundings, asked: str = "auto") -> Hosting:
    """Return whose contract is to be kept and what it implies.

    ``asked`` is a platform's name, or "auto" to find it out.  Raises ConfigurationError, with what
    to do, for a wish that this server cannot fulfil.
    """
    for name, reason in KSERVE_REFUSED.items():
        if name in around.kserve:
            raise ConfigurationError(f"--{name}: {reason}")
    flags = {
        setting: Implied(around.kserve[name], f"--{name}")
        for name, setting in KSERVE_FLAGS.items()
        if name in around.kserve
    }
    if "repository" in flags:
        around = replace(around, repository_given=True)
    usual = None if around.repository_given else _usual_folder(around.exists)
    platform = _detected(around, usual) if asked == "auto" else _named(asked)
    values: dict[str, Implied] = {}
    if platform is not Platform.NONE:
        values["host"] = Implied(_EVERY_ADDRESS, TITLES[platform])
        values["allow_open"] = Implied(value=True, origin=TITLES[platform])
    values |= _CONTRACTS[platform](around)
    fallback = {} if usual is None else {"repository": Implied(usual, "the first usual folder")}
    if platform is not Platform.NONE:
        # It starts another server where it wants other models.
        fallback["model_control"] = Implied("none", TITLES[platform])
    return Hosting(platform, flags, values, fallback)


def _usual_folder(exists: Callable[[Path], bool]) -> Path | None:
    """Return where the models are by habit, None if our own default is there or nothing is."""
    if exists(_DEFAULT_FOLDER):
        return None
    return next((folder for folder in _USUAL_FOLDERS if exists(folder)), None)


def _named(asked: str) -> Platform:
    """Return the platform of this name; for an unknown one nothing is implied."""
    return Platform(asked) if asked in set(Platform) else Platform.NONE


def _detected(around: Surroundings, usual: Path | None) -> Platform:
    """Find out the platform from signs that nothing else leaves."""
    environment = around.environment
    # The variable has too common a name to open the server to everybody by itself.
    initialised = environment.get("STORAGE_URI") and around.exists(_KSERVE_FOLDER)
    if around.kserve or initialised:
        return Platform.KSERVE
    if environment.get("AIP_MODE") == "PREDICTION" or _any(environment, _VERTEX_VARIABLES):
        return Platform.VERTEX
    # SageMaker promises no variable at all; then the folder is the only sign.
    if _any(environment, _SAGEMAKER_SIGNS) or usual == _SAGEMAKER_FOLDER:
        return Platform.SAGEMAKER
    return Platform.NONE


def _any(environment: Mapping[str, str], names: tuple[str, ...]) -> bool:
    return any(environment.get(name) for name in names)


def _nothing(around: Surroundings) -> dict[str, Implied]:
    del around
    return {}


def _kserve(around: Surroundings) -> dict[str, Implied]:
    if around.repository_given:
        return {}
    return {"repository": Implied(_KSERVE_FOLDER, TITLES[Platform.KSERVE])}


def _vertex(around: Surroundings) -> dict[str, Implied]:
    environment = around.environment
    values = {
        setting: Implied(environment[name], name)
        for name, setting in {"AIP_HTTP_PORT": "port", **_VERTEX_ROUTES}.items()
        if environment.get(name)
    }
    uri = environment.get("AIP_STORAGE_URI")
    if uri and not around.repository_given:
        values["repository"] = Implied(_vertex_folder(uri, around.exists), "AIP_STORAGE_URI")
    return values


def _vertex_folder(uri: str, exists: Callable[[Path], bool]) -> Path:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return Path(uri)
    if scheme == "file":
        return Path(rest)
    mounted = _GCS_MOUNT / rest.strip("/")
    if scheme == "gs" and exists(mounted):
        return mounted
    raise ConfigurationError(
        f"AIP_STORAGE_URI: {uri} is not mounted, and this server downloads nothing; mount the "
        f"bucket at {mounted} with Cloud Storage FUSE, or copy the models into the image and name "
        "their folder with ONNXPORT_REPOSITORY"
    )


def _sagemaker(around: Surroundings) -> dict[str, Implied]:
    environment = around.environment
    if environment.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true":
        raise ConfigurationError(
            "SAGEMAKER_MULTI_MODEL: multi-model endpoints, which load models while they serve, "
            "are not built; deploy one archive that holds the models as a single-model endpoint"
        )
    accept = environment.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "")
    if accept not in ("", "*/*", "application/json"):
        raise ConfigurationError(
            f"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT: answers are application/json, got '{accept}'"
        )
    values: dict[str, Implied] = {}
    if not around.repository_given:
        values["repository"] = Implied(_SAGEMAKER_FOLDER, TITLES[Platform.SAGEMAKER])
    for name, setting in _SAGEMAKER_VARIABLES.items():
        value = _sagemaker_value(setting, environment.get(name, ""))
        if value != "":
            values[setting] = Implied(value, name)
    return values


def _sagemaker_value(setting: str, text: str) -> object:
    """Return a value in our unit; what makes no sense stays as it is, to be refused by name."""
    if setting == "max_body_bytes" and text.isascii() and text.isdecimal():
        # 0 asks for no limit at all; ours stays.
        return int(text) << 20 or ""
    if setting == "log_level":
        return _LEVELS.get(text, text.lower())
    return text


_CONTRACTS: Mapping[Platform, Callable[[Surroundings], dict[str, Implied]]] = {
    Platform.NONE: _nothing,
    Platform.KSERVE: _kserve,
    Platform.VERTEX: _vertex,
    Platform.SAGEMAKER: _sagemaker,
}
