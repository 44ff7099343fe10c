"""`serving.toml`: what a person says about one model, beside its versions on disk."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args

from service.errors import ConfigurationError

SERVING_FILE = "serving.toml"
Verify = Literal["enforce", "advisory", "off"]

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
class ServingRules:
    """One model's `serving.toml`; what it leaves out is None or empty, so the server decides.

    ``labels`` are names for versions, such as {"stable": 7}.
    """

    versions: VersionPolicy | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    verify: Verify | None = None


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
    known = [rule.name for rule in fields(ServingRules)]
    for key in content:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise ConfigurationError(f"unknown key '{key}'; {hint}")
    return ServingRules(
        versions=_policy(content["versions"]) if "versions" in content else None,
        labels=_labels(content.get("labels", {})),
        verify=_verify(content["verify"]) if "verify" in content else None,
    )


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


def _is_version(value: object) -> bool:
    # In Python, unlike in TOML, true is a whole number.
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**18


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
