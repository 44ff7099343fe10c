"""A small file that is read again when it changes, and whose last good content counts."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from service.errors import ConfigurationError

T = TypeVar("T")
_MAX_BYTES = 1 << 20
# Within this many seconds a file may change twice without a new time stamp.
_SETTLED_AFTER = 2.0
_log = logging.getLogger("onnxport.watched")


class Watched(Generic[T]):
    """What a file means; a change that cannot be read is logged and changes nothing."""

    def __init__(self, path: Path, read: Callable[[bytes], T]) -> None:
        """Read the file; ``read`` and this raise ConfigurationError if it makes no sense."""
        self._path = path
        self._read = read
        # Changed only here and by `poll`: what was seen on disk last, and what it means.
        self._seen: tuple[int, ...] | None = None
        self._content = self._load()
        self._problem = ""
        self.value = read(self._content)

    def poll(self) -> bool:
        """Look at the file and return whether its meaning has changed."""
        try:
            if _signature(self._path.stat()) == self._seen:
                return False
            content = self._load()
            value = self._read(content)
        except (OSError, ConfigurationError) as error:
            self._report(error)
            return False
        self._problem = ""
        if content == self._content:
            return False
        self._content, self.value = content, value
        _log.info("%s: has changed and was read again", self._path)
        return True

    def _load(self) -> bytes:
        try:
            # Not waiting: a pipe without a writer would hold up everything.
            number = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {error.strerror}") from error
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            os.close(number)
            raise ConfigurationError(f"{self._path}: expected a file")
        with os.fdopen(number, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigurationError(f"{self._path}: longer than {_MAX_BYTES} bytes")
        settled = time.time() - about.st_mtime > _SETTLED_AFTER
        self._seen = _signature(about) if settled else None
        return content

    def _report(self, error: Exception) -> None:
        text = str(error)
        if text != self._problem:
            _log.error("%s: the content read before still counts: %s", self._path, text)
        self._problem = text


def _signature(about: os.stat_result) -> tuple[int, ...]:
    return (about.st_mtime_ns, about.st_size, about.st_ino, about.st_dev)
