"""Who a caller is and what callers may do: plain values, without HTTP, files or clocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a key may be used for; no scope holds another one."""

    PREDICT = "predict"
    READ = "read"
    METRICS = "metrics"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Identity:
    """A known caller; ``expires`` is in seconds of the Unix clock.

    The name stands in logs, so it must not tell anything of the key.
    """

    name: str
    scopes: frozenset[Scope]
    expires: float = math.inf


# Who calls a server without access control.
ANYBODY = Identity("", ALL_SCOPES)


def scopes_of(words: str) -> frozenset[Scope]:
    """Return the scopes among words between blanks; other words mean nothing here."""
    return frozenset(scope for scope in Scope if scope in words.split())
