"""Log lines: JSON for machines, short text for a terminal, each with the request's id."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

request_id: ContextVar[str] = ContextVar("request_id", default="")

_ACCESS = logging.getLogger("onnxport.access")
_COLOURS = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31m"}
_FIELDS = "fields"

Style = Literal["auto", "json", "text"]


class JsonFormatter(logging.Formatter):
    """One JSON object a line; only ASCII leaves it, so no control byte can."""

    def __init__(self, *, worker: int = 0) -> None:
        """Remember which worker writes; 0 is the process that has none or is none."""
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON: time, level, logger, message, request id and its fields."""
        members: dict[str, object] = {
            "time": _time(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._worker:
            members["worker"] = self._worker
        if request_id.get():
            members["request_id"] = request_id.get()
        members.update(_fields(record))
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return json.dumps(members, default=str)


class TextFormatter(logging.Formatter):
    """A line for a person: time, level, message and fields; colours only if asked for."""

    def __init__(self, *, colours: bool, worker: int = 0) -> None:
        """Remember whether the stream is a terminal, and which worker writes."""
        super().__init__()
        self._colours = colours
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, and its traceback below it if it has one."""
        level = record.levelname
        if self._colours and level in _COLOURS:
            level = f"{_COLOURS[level]}{level}\033[0m"
        words = [f"{_time(record):%H:%M:%S}", level, printable(record.getMessage())]
        words += [f"{key}={printable(str(value))}" for key, value in _fields(record).items()]
        if self._worker:
            words.append(f"worker={self._worker}")
        if request_id.get():
            words.append(f"request_id={request_id.get()}")
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def is_text(style: Style, stream: TextIO) -> bool:
    """Whether a stream gets text; "auto" means where a person looks on."""
    return style == "text" or (style == "auto" and stream.isatty())


def configure(
    *, level: str = "info", style: Style = "auto", stream: TextIO | None = None, worker: int = 0
) -> None:
    """Send everything to one stream, standard error if none is given; called once at start.

    ``worker`` is the number of the worker that writes, 0 for any other process.
    ``level`` holds for our own lines; of other packages only warnings and errors are written.
    """
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    if is_text(style, out):
        handler.setFormatter(TextFormatter(colours=out.isatty(), worker=worker))
    else:
        handler.setFormatter(JsonFormatter(worker=worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("onnxport").setLevel(level.upper())


def access(fields: Mapping[str, object], *, quiet: bool = False) -> None:
    """Write the line of one request; ``quiet`` ones, such as probes, only at level debug."""
    level = logging.DEBUG if quiet else logging.INFO
    if _ACCESS.isEnabledFor(level):
        _ACCESS.log(level, "request", extra={_FIELDS: fields})


def printable(text: str) -> str:
    """Return the text with every character that is not printable written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields = getattr(record, _FIELDS, None)
    return fields if isinstance(fields, Mapping) else {}
