"""The audit log: JSON lines, each with the hash of the one before, so that edits show.

Every process writes a chain of its own into the one file.  A chain begins with an ``open`` line,
which names the line of the file before it; so whole chains cannot be taken out unseen either.
Hashes are no signatures: who may rewrite the whole file may also reckon them anew.  The hash of a
last line that is kept elsewhere (`onnxport audit verify` prints it) proves what came before.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson

from service.errors import AuditUnavailable

NOTHING = "0" * 64
# What an opening line follows: nothing, a line of this file, or the file before this one.
START, HERE, ROTATED = "start", "here", "rotated"

_TAIL_BYTES = 64 << 10
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def hash_of(line: bytes) -> str:
    """Return the hash of a line without its end."""
    return hashlib.sha256(line).hexdigest()


def _utc() -> datetime:
    return datetime.now(UTC)


class AuditLog:
    """Appends lines to a file that other processes append to as well; safe to share by threads."""

    def __init__(
        self, path: Path, *, max_bytes: int = 0, clock: Callable[[], datetime] = _utc
    ) -> None:
        """Keep where to write; the file is opened with the first line.

        With ``max_bytes`` above 0 a file that is longer is renamed, the time behind its name, and
        a new one is begun.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        # Changed only with the lock held: the file, and where its chain stands.
        self._file = -1
        self._chain = ""
        self._count = 0
        self._last = NOTHING

    def prepare(self) -> None:
        """See whether the file can be written; raises AuditUnavailable if not."""
        try:
            os.close(os.open(self._path, _FLAGS, 0o600))
        except OSError as error:
            raise AuditUnavailable(f"{self._path}: {error.strerror}") from error

    def write(self, event: str, fields: Mapping[str, object], *, durable: bool = True) -> None:
        """Append a line; ``durable`` waits until the disk has it.

        Raises AuditUnavailable if that cannot be done.
        """
        try:
            with self._lock:
                self._ready_file()
                with _alone(self._file):
                    self._append(event, fields)
                # Of its own, since the file may be exchanged meanwhile.
                number = os.dup(self._file) if durable else -1
            if durable:
                try:
                    os.fsync(number)
                finally:
                    os.close(number)
        except OSError as error:
            raise AuditUnavailable(f"the audit log cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """End the chain with a line that says so, if it was begun."""
        if self._file >= 0:
            self.write("close", {})
        with self._lock:
            self._forget()

    def _ready_file(self) -> None:
        """See to it that the file is open, is still the one of this name, and is not too long."""
        if self._file >= 0:
            if not _is_same(self._file, self._path):
                self._forget()
            elif self._max_bytes and os.fstat(self._file).st_size >= self._max_bytes:
                self._rotate()
        if self._file < 0:
            self._open()

    def _open(self) -> None:
        # Nobody but the owner: it tells who did what.
        self._file = os.open(self._path, _FLAGS, 0o600)
        try:
            with _alone(self._file):
                self._begin_chain()
        except OSError:
            self._forget()
            raise

    def _begin_chain(self) -> None:
        tail = _tail(self._file)
        if tail and not tail.endswith(b"\n"):
            # Half a line, from a process or a disk that stopped: it stays as it is, and shows.
            _write_all(self._file, b"\n")
        lines = tail.removesuffix(b"\n").rsplit(b"\n", 1)
        if lines[-1]:
            before, after = hash_of(lines[-1]), HERE
        else:
            before, after = self._last, ROTATED if self._last != NOTHING else START
        self._chain, self._count, self._last = secrets.token_hex(8), 0, before
        self._append("open", {"after": after, "process": os.getpid()})

    def _append(self, event: str, fields: Mapping[str, object]) -> None:
        line = orjson.dumps(
            {
                "chain": self._chain,
                "number": self._count,
                "time": self._clock().isoformat(timespec="milliseconds"),
                "event": event,
                **fields,
                "previous": self._last,
            },
            default=str,
        )
        try:
            _write_all(self._file, line + b"\n")
        except OSError:
            # Part of the line may be there; a new chain says where it begins.
            self._forget()
            raise
        self._count += 1
        self._last = hash_of(line)

    def _rotate(self) -> None:
        with _alone(self._file):
            if _is_same(self._file, self._path):
                self._path.rename(_free_name(self._path, self._clock()))
        self._forget()

    def _forget(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


@contextmanager
def _alone(file: int) -> Iterator[None]:
    """Keep other processes from writing to a file."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _is_same(file: int, path: Path) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), there)


def _tail(file: int) -> bytes:
    size = os.fstat(file).st_size
    return os.pread(file, _TAIL_BYTES, max(0, size - _TAIL_BYTES))


def _write_all(file: int, content: bytes) -> None:
    """Write in one piece, as appending processes must."""
    written = os.write(file, content)
    if written != len(content):
        raise OSError(28, "no space left for a whole line")


def _free_name(path: Path, now: datetime) -> Path:
    stamp = f"{now:%Y%m%dT%H%M%S}"
    number, found = 0, path.with_name(f"{path.name}.{stamp}")
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}.{stamp}-{number}")
    return found
