"""One HTTP exchange seen from outside: its id, its line in the access log, its place in metrics."""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Protocol

from service import logs
from service.metrics import Metrics
from service.scheduling import Timings
from service.tracing import Trace, Traces, own_trace

CLIENT_GONE = 499

_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACE_ID = re.compile(rb"[0-9a-f]{16}(?!0{16})[0-9a-f]{16}")
_MAX_PATH = 256
Head = list[tuple[bytes, bytes]]


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

    ``road`` is a path template of ours, never a path.  A ``probe`` comes every second or so.
    ``timings`` are there once a model has answered.  ``trace`` is there if the caller sent one or
    spans are sent; who writes a line asks for it with `placed`.  The
    ``caller`` is the name of a key, never the key.
    """

    id: bytes
    method: str
    path: str
    client: str
    trace: Trace | None = None
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
    timings: Timings | None = None

    def placed(self) -> Trace:
        """Return the place in a trace; an id that could be a trace's, as ours, is that, too."""
        if self.trace is None:
            whole = _TRACE_ID.fullmatch(self.id)
            self.trace = own_trace(self.id.decode() if whole else secrets.token_hex(16))
        return self.trace

    def head(self) -> Head:
        """Return the headers that belong to an answer, whatever road it comes by."""
        head = [(b"x-request-id", self.id)]
        if self.timings is not None:
            head.append((b"server-timing", server_timing(self.timings)))
        if self.trace is not None and self.trace.parent:
            head.append((b"traceparent", self.trace.header()))
        return head


def server_timing(timings: Timings) -> bytes:
    """Return the milliseconds of each stage that a request went through, for its caller."""
    text = b"queue;dur=%.3f, infer;dur=%.3f" % (timings.queue * 1e3, timings.infer * 1e3)
    if timings.preprocess or timings.postprocess:
        text += b", preprocess;dur=%.3f, postprocess;dur=%.3f" % (
            timings.preprocess * 1e3,
            timings.postprocess * 1e3,
        )
    return text


class Recorder(Protocol):
    """Who sends the spans of requests, as `service.telemetry` does."""

    def exchange(self, visit: Visit, trace: Trace, status: int) -> None:
        """Note an exchange that has ended and whose trace is recorded."""
        ...


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
        self,
        metrics: Metrics,
        *,
        access_log: bool = True,
        traces: Traces | None = None,
        recorder: Recorder | None = None,
        auditor: Auditor | None = None,
    ) -> None:
        """Keep where to count; without ``access_log`` no line is written."""
        self._metrics = metrics
        self._traces = traces or Traces()
        self._recorder = recorder
        self._auditor = auditor if auditor is not None and auditor.predictions else None
        self._access_log = access_log
        # A new id a request, without asking the system for randomness each time.
        self._prefix = secrets.token_hex(8).encode()
        self._numbers = itertools.count(1)

    def open(
        self, asked_id: bytes, *, method: str, path: str, client: str, parent: bytes = b""
    ) -> Visit:
        """Begin: the caller's own id is kept if it is a sane one, and so is its trace.

        ``parent`` is the traceparent header.
        """
        self._metrics.started()
        kept = asked_id and _ID.fullmatch(asked_id)
        visit = Visit(asked_id if kept else self._new_id(), method, path, client)
        if parent or self._traces.recording:
            own = self._new_id() if kept else visit.id
            visit.trace = self._traces.begin(parent, own.decode())
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
            logs.access(
                _fields(visit, status), self._ids(visit), quiet=visit.probe and status < 400
            )
        trace = visit.trace
        if self._recorder is not None and trace is not None and trace.recorded and not visit.probe:
            self._recorder.exchange(visit, trace, status)

    def _ids(self, visit: Visit) -> dict[str, str]:
        """Return the ids of a request for its line in the log."""
        name = visit.id.decode()
        if visit.trace is None and len(name) == 32 and visit.id.startswith(self._prefix):
            # As `placed` has it, for the many who bring no id of theirs.
            return {"request_id": name, "trace_id": name, "span_id": name[16:]}
        trace = visit.placed()
        return {"request_id": name, "trace_id": trace.id, "span_id": trace.span}


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
