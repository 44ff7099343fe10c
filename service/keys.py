"""API keys: made once, kept only as SHA-256, listed in TOML with name, scopes and expiry."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from service.access import Identity, Scope
from service.errors import ConfigurationError

# Says to people, and to scanners of repositories, what leaked.
PREFIX = "onnxport_"

# 256 bits cannot be guessed, so one round of SHA-256 hides them as well as a slow hash would.
_KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MEMBERS = ("name", "sha256", "scopes", "expires")


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept: the hash of it, and whom it stands for."""

    digest: bytes
    identity: Identity


def digest_of(credential: bytes) -> bytes:
    """Return the 32 bytes under which a key is kept."""
    return hashlib.sha256(credential).digest()


def new_key() -> str:
    """Return a new key, which is known to nobody else."""
    return PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def find(keys: Sequence[Key], digest: bytes) -> Identity | None:
    """Return whom a hash stands for; every key is compared, each in constant time."""
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key.identity
    return found


def toml_lines(key: str, name: str, scopes: Sequence[Scope], expires: datetime | None) -> str:
    """Return what a key file needs to accept a key; raises ConfigurationError for a bad name."""
    _checked_name(name, "name")
    listed = ", ".join(f'"{scope}"' for scope in scopes)
    lines = [
        "[[key]]",
        f'name = "{name}"',
        f'sha256 = "{digest_of(key.encode()).hex()}"',
        f"scopes = [{listed}]",
    ]
    if expires is not None:
        lines.append(f"expires = {expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    return "\n".join(lines)


def parse_keys(content: bytes, origin: str) -> tuple[Key, ...]:
    """Return the keys of a TOML text, at least one.

    Raises ConfigurationError that begins with ``origin`` and names the key and the member.  No
    text shows what stands in place of a hash: it may be a key.
    """
    try:
        document = tomllib.loads(content.decode())
    except ValueError as error:
        # The parser's text may quote the line, so only the place is passed on.
        where = re.search(r"\(at [^)]*\)", str(error))
        raise ConfigurationError(f"{origin}: not TOML {where[0] if where else ''}".rstrip()) from (
            None
        )
    entries = document.pop("key", None)
    if document:
        raise ConfigurationError(f"{origin}: unknown '{next(iter(document))[:40]}', expected 'key'")
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{origin}: holds no key; `onnxport keys new` makes one")
    keys = tuple(
        _key(entry, f"{origin}: key {number}") for number, entry in enumerate(entries, start=1)
    )
    _refuse_doubles([key.identity.name for key in keys], f"{origin}: name")
    _refuse_doubles([key.digest.hex() for key in keys], f"{origin}: sha256")
    return keys


def _key(entry: object, where: str) -> Key:
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"{where}: expected a table, got {type(entry).__name__}")
    for member in entry:
        if member not in _MEMBERS:
            raise ConfigurationError(f"{where}: unknown '{member[:40]}', known are {_listed()}")
    name = _checked_name(entry.get("name"), f"{where}: name")
    where = f"{where} ('{name}')"
    digest = entry.get("sha256")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest.lower()):
        seen = f"{len(digest)} characters" if isinstance(digest, str) else "none"
        raise ConfigurationError(f"{where}: sha256: expected 64 hexadecimal digits, got {seen}")
    scopes = _scopes(entry.get("scopes"), where)
    return Key(bytes.fromhex(digest), Identity(name, scopes, _expiry(entry.get("expires"), where)))


def _listed() -> str:
    return ", ".join(_MEMBERS)


def _checked_name(name: object, where: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where}: expected 1 to 64 letters, digits, '.', '_' or '-', got {name!r:.80}"
        )
    return name


def _scopes(value: object, where: str) -> frozenset[Scope]:
    known = ", ".join(Scope)
    if not isinstance(value, list) or not value:
        raise ConfigurationError(f"{where}: scopes: expected a list of {known}")
    for one in value:
        if one not in set(Scope):
            raise ConfigurationError(f"{where}: scopes: expected {known}, got {one!r:.80}")
    return frozenset(Scope(one) for one in value)


def _expiry(value: object, where: str) -> float:
    if value is None:
        return math.inf
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigurationError(f"{where}: expires: {value} has no offset, add a Z for UTC")
        return value.timestamp()
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC).timestamp()
    raise ConfigurationError(f"{where}: expires: expected a date or a time, got {value!r:.80}")


def _refuse_doubles(values: Sequence[str], where: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigurationError(f"{where}: '{value}' stands twice")
