"""From a key or a token to whom it stands for: several sources, looked at again as time passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from service.access import Identity
from service.keys import Key, digest_of, find, parse_keys
from service.watched import Watched

# Accepted credentials that are remembered; each is 32 bytes and a small value.
_MAX_KNOWN = 4096
_LOOK_EVERY = 1.0
# No key is longer, and few tokens are.
MAX_CREDENTIAL_BYTES = 8192

OnChange = Callable[[str, Sequence[str], Sequence[str]], None]


class Source(Protocol):
    """Where identities come from."""

    def poll(self) -> bool:
        """Look again and return whether anything has changed."""
        ...

    def find(self, credential: bytes, digest: bytes) -> Identity | None:
        """Return whom a credential stands for; its expiry is the caller's to check."""
        ...


class FixedKeys:
    """Keys that stay as they are while the process lives."""

    def __init__(self, keys: Sequence[Key]) -> None:
        """Keep them."""
        self._keys = tuple(keys)

    def poll(self) -> bool:
        """Never change."""
        return False

    def find(self, credential: bytes, digest: bytes) -> Identity | None:
        """Return whom a key stands for."""
        del credential
        return find(self._keys, digest)


class KeyFile:
    """Keys of a file, which may be exchanged while the server runs."""

    def __init__(self, path: Path, on_change: OnChange | None = None) -> None:
        """Read them; ``on_change`` hears of the file and the names that came and went."""
        self._path = path
        self._on_change = on_change
        self._keys = Watched(path, lambda content: parse_keys(content, str(path)))

    def poll(self) -> bool:
        """Look at the file; a damaged one keeps the keys that were read before."""
        before = self._keys.value
        if not self._keys.poll():
            return False
        if self._on_change is not None:
            came, went = _changed(before, self._keys.value)
            self._on_change(str(self._path), came, went)
        return True

    def find(self, credential: bytes, digest: bytes) -> Identity | None:
        """Return whom a key stands for."""
        del credential
        return find(self._keys.value, digest)


def _changed(before: Sequence[Key], after: Sequence[Key]) -> tuple[list[str], list[str]]:
    """Return the names of entries that are new or differ, and of those that are gone or differ."""
    came = [key.identity.name for key in after if key not in before]
    return came, [key.identity.name for key in before if key not in after]


class Authority:
    """Knows callers by what they show; used on the event loop only."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Keep the sources; ``clock`` says when to look at them again, ``wall`` who has expired."""
        self._sources = tuple(sources)
        self._clock = clock
        self._wall = wall
        # Hashes of credentials that were accepted; only `identify` changes them.
        self._known: dict[bytes, Identity] = {}
        self._next_look = 0.0

    def identify(self, credential: bytes) -> Identity | None:
        """Return whom a credential stands for now, None if for nobody."""
        self._look()
        digest = digest_of(credential)
        identity = self._known.get(digest)
        if identity is None:
            identity = self._find(credential, digest)
            if identity is None:
                return None
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[digest] = identity
        return identity if self._wall() < identity.expires else None

    def _look(self) -> None:
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY
        # Every source is looked at, whatever the first one says.
        changes = [source.poll() for source in self._sources]
        if any(changes):
            self._known.clear()

    def _find(self, credential: bytes, digest: bytes) -> Identity | None:
        if len(credential) > MAX_CREDENTIAL_BYTES:
            return None
        found = [source.find(credential, digest) for source in self._sources]
        return next((identity for identity in found if identity is not None), None)
