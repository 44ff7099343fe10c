"""`serving.toml`: what a person says about one model, beside its versions on disk."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeGuard, get_args

from service.errors import ConfigurationError
from service.options import options_by_provider, provider_options, session_options
from service.providers import AUTO, EXPECTED, normal_names

SERVING_FILE = "serving.toml"
Verify = Literal["enforce", "advisory", "off"]
RunMode = Literal["tick", "threads"]
Profile = Literal["throughput", "latency"]
Isolation = Literal["worker", "process"]
MAX_ROWS = 65_536
MAX_WAIT_MS = 10_000.0

_MAX_FILE_BYTES = 1 << 20
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_VERSIONS = 'expected "all", {latest = N} or {specific = [N, ...]} with numbers above 0'


@dataclass(frozen=True, slots=True)
class Latest:
    """The highest ``count`` versions on disk."""

    count: int = 1


@dataclass(frozen=True, slots=True)
class All:
    """Every version on disk."""


@dataclass(frozen=True, slots=True)
class Specific:
    """Exactly these versions, whether they are on disk or not."""

    versions: tuple[int, ...]


VersionPolicy = Latest | All | Specific
NEWEST: VersionPolicy = Latest()


@dataclass(frozen=True, slots=True)
class BatchingRules:
    """What the table ``[batching]`` says; None is left to the calibration or the server."""

    max_rows: int | None = None
    max_wait_ms: float | None = None
    run: RunMode | None = None


@dataclass(frozen=True, slots=True)
class OrtRules:
    """What the table ``[ort]`` says: ONNX Runtime's own options, as `service.options` checks."""

    session: Mapping[str, str] = field(default_factory=dict)
    provider: Mapping[str, str] = field(default_factory=dict)
    providers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServingRules:
    """One model's `serving.toml`; what it leaves out is None or empty, so the server decides.

    ``labels`` are names for versions, such as {"stable": 7}.
    """

    versions: VersionPolicy | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    verify: Verify | None = None
    profile: Profile | None = None
    isolation: Isolation | None = None
    batching: BatchingRules = field(default_factory=BatchingRules)
    ort: OrtRules = field(default_factory=OrtRules)
    providers: tuple[str, ...] | None = None
    strict_placement: bool | None = None
    cuda_graphs: bool | None = None

    @property
    def apart(self) -> bool:
        """Whether the model runs in a process of its own."""
        return self.isolation == "process"


def choose(policy: VersionPolicy, versions: Iterable[int]) -> frozenset[int]:
    """Return which of the versions on disk a policy wants; Specific may want others too."""
    match policy:
        case Latest(count):
            return frozenset(sorted(versions)[-count:])
        case Specific(wanted):
            return frozenset(wanted)
        case All():
            return frozenset(versions)


def read_rules(folder: Path) -> ServingRules:
    """Return the rules in a model's folder, those of an empty file where there is none.

    Raises ConfigurationError that names the file, the key and the value seen.
    """
    file = folder / SERVING_FILE
    if not file.is_file():
        return ServingRules()
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigurationError(f"{file}: larger than {_MAX_FILE_BYTES} bytes")
        content = tomllib.loads(file.read_bytes().decode())
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file}: not TOML: {error}") from error
    try:
        return parse_rules(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error


def parse_rules(content: Mapping[str, object]) -> ServingRules:
    """Turn the file's keys into rules; raises ConfigurationError for what it may not hold."""
    _refuse_unknown(content, [rule.name for rule in fields(ServingRules)])
    return ServingRules(
        versions=_policy(content["versions"]) if "versions" in content else None,
        labels=_labels(content.get("labels", {})),
        verify=_verify(content["verify"]) if "verify" in content else None,
        profile=_profile(content["profile"]) if "profile" in content else None,
        isolation=_isolation(content["isolation"]) if "isolation" in content else None,
        batching=_batching(content.get("batching", {})),
        ort=_ort(content.get("ort", {})),
        providers=_providers(content["providers"]) if "providers" in content else None,
        strict_placement=_flag(content, "strict_placement"),
        cuda_graphs=_flag(content, "cuda_graphs"),
    )


def _refuse_unknown(content: Mapping[str, object], known: Sequence[str], table: str = "") -> None:
    for key in content:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise ConfigurationError(f"unknown key '{table}{key}'; {hint}")


def _policy(value: object) -> VersionPolicy:
    match value:
        case "all":
            return All()
        case {"latest": latest, **rest} if not rest and _is_version(latest):
            return Latest(int(latest))
        case {"specific": [_, *_] as specific, **rest} if not rest and all(
            map(_is_version, specific)
        ):
            return Specific(tuple(sorted(set(specific))))
    raise ConfigurationError(f"versions: {_VERSIONS}, got {_shown(value)}")


def _labels(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"labels: expected {{name = version}}, got {_shown(value)}")
    for name, version in value.items():
        if _LABEL.fullmatch(name) is None:
            raise ConfigurationError(
                f"labels: {_shown(name)} cannot be a label; use letters, digits, '.', '_', '-'"
            )
        if not _is_version(version):
            raise ConfigurationError(
                f"labels.{name}: expected a version above 0, got {_shown(version)}"
            )
    return dict(value)


def _verify(value: object) -> Verify:
    match value:
        case "enforce" | "advisory" | "off":
            return value
    raise ConfigurationError(
        f"verify: expected one of {', '.join(get_args(Verify))}, got {_shown(value)}"
    )


def _profile(value: object) -> Profile:
    match value:
        case "throughput" | "latency":
            return value
    raise ConfigurationError(
        f"profile: expected one of {', '.join(get_args(Profile))}, got {_shown(value)}"
    )


def _isolation(value: object) -> Isolation:
    match value:
        case "worker" | "process":
            return value
    raise ConfigurationError(
        f"isolation: expected one of {', '.join(get_args(Isolation))}, got {_shown(value)}"
    )


def _batching(value: object) -> BatchingRules:
    table = _table(value, "batching")
    _refuse_unknown(table, [rule.name for rule in fields(BatchingRules)], "batching.")
    rows, wait, run = (table.get(key) for key in ("max_rows", "max_wait_ms", "run"))
    if rows is not None and not (_is_whole(rows) and 1 <= rows <= MAX_ROWS):
        raise ConfigurationError(
            f"batching.max_rows: expected a whole number from 1 to {MAX_ROWS}, got {_shown(rows)}"
        )
    if wait is not None and not (_is_number(wait) and 0 <= wait <= MAX_WAIT_MS):
        raise ConfigurationError(
            f"batching.max_wait_ms: expected a number from 0 to {MAX_WAIT_MS:g}, got {_shown(wait)}"
        )
    match run:
        case None | "tick" | "threads":
            return BatchingRules(rows, wait, run)
    raise ConfigurationError(
        f"batching.run: expected one of {', '.join(get_args(RunMode))}, got {_shown(run)}"
    )


def _ort(value: object) -> OrtRules:
    table = _table(value, "ort")
    _refuse_unknown(table, [rule.name for rule in fields(OrtRules)], "ort.")
    return OrtRules(
        session_options(table.get("session", {})),
        provider_options(table.get("provider", {})),
        options_by_provider(table.get("providers", {})),
    )


def _providers(value: object) -> tuple[str, ...]:
    if value == "auto":
        return AUTO
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(f"providers: expected {EXPECTED}, got {_shown(value)}")
    try:
        return normal_names(value)
    except ValueError as error:
        raise ConfigurationError(f"providers: {error}") from error


def _flag(content: Mapping[str, object], key: str) -> bool | None:
    value = content.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise ConfigurationError(f"{key}: expected true or false, got {_shown(value)}")


def _table(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{name}: expected a table [{name}], got {_shown(value)}")
    return value


def _is_whole(value: object) -> TypeGuard[int]:
    # In Python, unlike in TOML, true is a whole number.
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_version(value: object) -> bool:
    return _is_whole(value) and 0 < value < 10**18


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
