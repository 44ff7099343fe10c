"""Keys for servers under test, and a clock that a test turns."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.access import ALL_SCOPES, Identity, Scope
from service.authority import Authority, FixedKeys
from service.keys import Key, digest_of
from service.web.security import Gate, Policy

NOW = 1_800_000_000.0


@dataclass(slots=True)
class Clock:
    """Seconds that pass only when a test says so."""

    now: float = NOW

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@dataclass(slots=True)
class Closed:
    """A gate that knows one key a scope, called as it is, and one key ``all`` for everything."""

    policy: Policy = field(default_factory=Policy)
    clock: Clock = field(default_factory=Clock)

    def gate(self) -> Gate:
        """Return a new gate."""
        keys = [make_key(scope, {scope}) for scope in Scope]
        keys.append(make_key("all", ALL_SCOPES))
        keys.append(make_key("expired", ALL_SCOPES, expires=NOW - 1))
        source = FixedKeys(keys)
        return Gate(self.policy, Authority([source], clock=self.clock, wall=self.clock))


def make_key(
    name: str, scopes: frozenset[Scope] | set[Scope], expires: float = float("inf")
) -> Key:
    """Return a key whose secret is ``<name>-secret``."""
    return Key(digest_of(secret(name).encode()), Identity(name, frozenset(scopes), expires))


def secret(name: str) -> str:
    """Return the secret of a key of `make_key`."""
    return f"{name}-secret"


def bearer(name: str) -> dict[str, str]:
    """Return the header that shows a key of `make_key`."""
    return {"Authorization": f"Bearer {secret(name)}"}


def toml(*names: str, scopes: str = '["predict"]', expires: str = "") -> str:
    """Return a key file that lets in the keys of `make_key`."""
    entries = [
        f'[[key]]\nname = "{name}"\nsha256 = "{digest_of(secret(name).encode()).hex()}"\n'
        f"scopes = {scopes}\n" + (f"expires = {expires}\n" if expires else "")
        for name in names
    ]
    return "\n".join(entries)
