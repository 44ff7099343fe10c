"""One HTTP exchange seen from outside: its id, its line in the access log, its place in metrics."""

from __future__ import annotations

import hashlib
import itertools
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Protocol

from service import logs
from service.metrics import Metrics

CLIENT_GONE = 499

_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_MAX_PATH = 256


class Hashes:
    """The hashes of what was asked and answered, for an audit log that holds no payloads."""

    __slots__ = ("answered", "asked")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.asked = hashlib.sha256()
        self.answered = hashlib.sha256()


@dataclass(slots=True)
class Visit:
    """What is known of one exchange; the roads fill it in while it travels.

    ``road`` is a path template of ours, never a path.  A ``probe`` comes every second or so.  The
    ``caller`` is the name of a key, never the key.
    """

    id: bytes
    method: str
    path: str
    client: str
    started: float = field(default_factory=time.monotonic)
    received: int = 0
    sent: int = 0
    status: int = 0
    road: str = "unknown"
    probe: bool = False
    model: str = ""
    error: str = ""
    caller: str = ""
    version: int | None = None
    hashes: Hashes | None = None


class Auditor(Protocol):
    """What an exchange needs of the audit log."""

    @property
    def predictions(self) -> bool:
        """Whether predictions are noted."""
        ...

    def prediction(self, visit: Visit, status: int) -> None:
        """Note an exchange that has ended, if it was a prediction."""
        ...


class Visits:
    """Opens and closes every exchange of a process, whichever way it takes through the server."""

    def __init__(
        self, metrics: Metrics, *, access_log: bool = True, auditor: Auditor | None = None
    ) -> None:
        """Keep where to count; without ``access_log`` no line is written."""
        self._metrics = metrics
        self._auditor = auditor if auditor is not None and auditor.predictions else None
        self._access_log = access_log
        # A new id a request, without asking the system for randomness each time.
        self._prefix = uuid.uuid4().hex[:16].encode()
        self._numbers = itertools.count(1)

    def open(self, asked_id: bytes, *, method: str, path: str, client: str) -> Visit:
        """Begin: the caller's own id is kept if it is a sane one."""
        self._metrics.started()
        name = asked_id if asked_id and _ID.fullmatch(asked_id) else self._new_id()
        visit = Visit(name, method, path, client)
        if self._auditor is not None:
            visit.hashes = Hashes()
        return visit

    def _new_id(self) -> bytes:
        return b"%b%016x" % (self._prefix, next(self._numbers))

    def close(self, visit: Visit) -> None:
        """Count the exchange and write its line; one without a status has lost its caller."""
        status = visit.status or CLIENT_GONE
        self._metrics.ended(visit.road, status)
        if self._auditor is not None:
            self._auditor.prediction(visit, status)
        if self._access_log:
            logs.access(_fields(visit, status), quiet=visit.probe and status < 400)


def _fields(visit: Visit, status: int) -> dict[str, str | float]:
    path = visit.path[:_MAX_PATH]
    fields: dict[str, str | float] = {
        "method": visit.method,
        # A log is read by people and machines that take some bytes for more than a text.
        "path": path if path.isascii() and path.isprintable() else ascii(path)[1:-1],
        "status": status,
        "milliseconds": round((time.monotonic() - visit.started) * 1000, 2),
        "bytes_in": visit.received,
        "bytes_out": visit.sent,
        "client": visit.client,
    }
    if visit.caller:
        fields["client_id"] = visit.caller
    if visit.model:
        fields["model"] = visit.model
    if visit.error:
        fields["error"] = visit.error
    return fields
