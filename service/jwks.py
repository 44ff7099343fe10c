"""Signed tokens (JWT), checked with the public keys of a JWK set in a file.

The server never calls out: whoever runs it keeps the file fresh.  This is the only importer of
PyJWT, which the extra ``jwt`` brings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from service.access import Identity, scopes_of
from service.errors import ConfigurationError
from service.watched import Watched

# Seconds by which the clocks of two machines may differ.
_LEEWAY = 10
_MAX_NAME = 64
# What the library says of tokens that are none, and what it lets through of Python's own.
_BAD_TOKEN = (
    jwt.exceptions.PyJWTError,
    ValueError,
    TypeError,
    KeyError,
    ArithmeticError,
    RecursionError,
)
_KEY_TYPES: Mapping[str, str] = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say; ``algorithms`` are names of JWA, all with public keys."""

    audience: str
    issuer: str
    algorithms: tuple[str, ...]
    scope_claim: str = "scope"
    scope_prefix: str = ""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key of a set; ``algorithm`` is "" where the set does not bind it to one."""

    name: str | None
    kind: str
    algorithm: str
    key: Any


class TokenFile:
    """The tokens that the keys of a file have signed."""

    def __init__(self, path: Path, rules: TokenRules) -> None:
        """Read the keys; raises ConfigurationError if there are none of use."""
        self._rules = rules
        self._keys = Watched(path, lambda content: read_jwks(content, str(path)))

    def poll(self) -> bool:
        """Look at the file; a damaged one keeps the keys that were read before."""
        return self._keys.poll()

    def find(self, credential: bytes, digest: bytes) -> Identity | None:
        """Return whom a token stands for, None if it is none or does not hold."""
        del digest
        return verified(credential, self._keys.value, self._rules)


def read_jwks(content: bytes, origin: str) -> tuple[PublicKey, ...]:
    """Return the public signing keys of a JWK set; raises ConfigurationError if it has none.

    Keys of other kinds are left out, secret and private ones above all: whoever reads the file
    could sign with them.
    """
    try:
        entries = json.loads(content)["keys"]
        mappings = [entry for entry in entries if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{origin}: not a JWK set: {type(error).__name__}") from None
    keys = []
    for entry in mappings:
        if entry.get("kty") not in _KEY_TYPES.values() or entry.get("use", "sig") != "sig":
            continue
        if "d" in entry:
            continue
        try:
            keys.append(_public_key(entry))
        except (jwt.exceptions.PyJWTError, ValueError, KeyError, TypeError):
            # Of a kind that this server does not know; others of the set may be of use.
            continue
    if not keys:
        raise ConfigurationError(f"{origin}: holds no public key that signs (RSA, EC, OKP)")
    return tuple(keys)


def _public_key(entry: dict[str, Any]) -> PublicKey:
    key = jwt.PyJWK(entry).key
    return PublicKey(entry.get("kid"), entry["kty"], str(entry.get("alg") or ""), key)


def verified(token: bytes, keys: tuple[PublicKey, ...], rules: TokenRules) -> Identity | None:
    """Return whom a token stands for, None if anything about it is wrong."""
    if token.count(b".") != 2:
        return None
    try:
        head = jwt.get_unverified_header(token)
        key = _key_of(head, keys, rules)
        if key is None:
            return None
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[head["alg"]],
            audience=rules.audience,
            issuer=rules.issuer,
            leeway=_LEEWAY,
            options={"require": ["exp", "aud", "iss", "sub"]},
        )
        # The library leaves numbers to us that no clock shows.
        expires = float(claims["exp"])
    except _BAD_TOKEN:
        return None
    scopes = scopes_of(_scope_words(claims.get(rules.scope_claim), rules.scope_prefix))
    return Identity(_name(str(claims["sub"])), scopes, expires) if math.isfinite(expires) else None


def _key_of(
    head: Mapping[str, object], keys: tuple[PublicKey, ...], rules: TokenRules
) -> jwt.PyJWK | None:
    """Return the key that a token's head means; what the head says is the caller's word only."""
    algorithm = head.get("alg")
    # A token that says what must be understood says it to somebody else.
    if not isinstance(algorithm, str) or algorithm not in rules.algorithms or "crit" in head:
        return None
    name = head.get("kid")
    kind = _KEY_TYPES[algorithm[:2]]
    for key in keys:
        same = key.name == name or (name is None and len(keys) == 1)
        if same and key.kind == kind and key.algorithm in ("", algorithm):
            return key
    return None


def _scope_words(claim: object, prefix: str) -> str:
    """Return a claim's words, a text as OAuth has it or a list, without their prefix."""
    words = claim.split() if isinstance(claim, str) else claim
    if not isinstance(words, list):
        return ""
    mine = [word for word in words if isinstance(word, str) and word.startswith(prefix)]
    return " ".join(word.removeprefix(prefix) for word in mine)


def _name(subject: str) -> str:
    """Return a subject as a line of a log can hold it, told apart from a key's name."""
    plain = subject if subject.isascii() and subject.isprintable() else ascii(subject)[1:-1]
    return "jwt:" + plain[:_MAX_NAME]
