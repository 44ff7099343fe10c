"""Calibrations kept between starts: one small file each, named by all that could change it."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from service.calibration import Calibration

_FOLDER = "calibration"
_MAX_BYTES = 1 << 16
_POLL = 0.02

Fingerprint = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class CalibrationCache:
    """A folder, or nothing, that remembers what was measured.

    Of several processes that ask for the same at once one measures, and the others wait at most
    ``patience`` seconds for it.  Whatever is wrong with the folder, the answer is measured.
    """

    folder: Path | None = None
    patience: float = 20.0

    def get(self, fingerprint: Fingerprint, measure: Callable[[], Calibration]) -> Calibration:
        """Return what is remembered for the fingerprint, or measure it and remember that."""
        if self.folder is None:
            return measure()
        file = self.folder / _FOLDER / f"{name_of(fingerprint)}.json"
        kept = _read(file, fingerprint)
        if kept is not None:
            return kept
        with _alone(file.with_suffix(".lock"), self.patience):
            kept = _read(file, fingerprint)
            if kept is not None:
                return kept
            fresh = measure()
            # An empty table is a model that could not be run just now, which is asked again.
            if fresh.seconds:
                _write(file, fingerprint, fresh)
            return fresh


def name_of(fingerprint: Fingerprint) -> str:
    """Return the name under which a fingerprint is kept."""
    return sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


def encode(fingerprint: Fingerprint, calibration: Calibration) -> bytes:
    """Return a file's content."""
    facts = asdict(replace(calibration, from_cache=False))
    facts.pop("from_cache")
    facts["seconds"] = {str(rows): one for rows, one in calibration.seconds.items()}
    return json.dumps({"fingerprint": fingerprint, "calibration": facts}, sort_keys=True).encode()


def decode(content: bytes, fingerprint: Fingerprint) -> Calibration | None:
    """Return what a file holds; None if it is damaged or is about something else."""
    try:
        document = json.loads(content)
        if document["fingerprint"] != json.loads(json.dumps(fingerprint)):
            return None
        return _calibration(document["calibration"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _calibration(facts: Mapping[str, Any]) -> Calibration | None:
    match facts:
        case {
            "seconds": dict(seconds),
            "cap": int(cap),
            "run": ("tick" | "threads") as run,
            "tick_rows": int(tick_rows),
            "tick_length": (int() | None) as tick_length,
            "why": str(why),
            **rest,
        } if not rest and seconds:
            table = dict(sorted((int(rows), float(one)) for rows, one in seconds.items()))
            sound = all(rows > 0 and 0 <= one < 1e6 for rows, one in table.items())
            if sound and cap in table and (tick_rows in table or not tick_rows):
                return Calibration(table, cap, run, tick_rows, tick_length, why, from_cache=True)
    return None


def _read(file: Path, fingerprint: Fingerprint) -> Calibration | None:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError:
        return None
    return decode(content, fingerprint) if len(content) <= _MAX_BYTES else None


def _write(file: Path, fingerprint: Fingerprint, calibration: Calibration) -> None:
    """Put the file there whole or not at all; that it cannot be written is no error."""
    with suppress(OSError):
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".new")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(encode(fingerprint, calibration))
            Path(name).replace(file)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def _alone(lock: Path, patience: float) -> Iterator[None]:
    """Hold a lock that ends with its process; after too long, or where there is none, go on."""
    try:
        lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        yield
        return
    try:
        ends = time.monotonic() + patience
        while not _locked(handle) and time.monotonic() < ends:
            time.sleep(_POLL)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks: waiting would not help.
        return True
    return True
