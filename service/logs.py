"""Log lines: JSON for machines, short text for a terminal, each with the ids of its request."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

from service import tracing

_ACCESS = logging.getLogger("onnxport.access")
_COLOURS = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31m"}
_FIELDS = "fields"
_REQUEST = "request"

Style = Literal["auto", "json", "text"]


class JsonFormatter(logging.Formatter):
    """One JSON object a line; only ASCII leaves it, so no control byte can."""

    def __init__(self, *, worker: int = 0) -> None:
        """Remember which worker writes; 0 is the process that has none or is none."""
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON: time, level, logger, message, ids and its fields."""
        members: dict[str, object] = {
            "time": _time(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._worker:
            members["worker"] = self._worker
        if (place := tracing.current.get()) is not None:
            trace = place.placed()
            members["request_id"] = place.id.decode()
            members |= {"trace_id": trace.id, "span_id": trace.span}
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
        if (place := tracing.current.get()) is not None:
            words.append(f"request_id={place.id.decode()}")
        line = " ".join(words)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def is_text(style: Style, stream: TextIO) -> bool:
    """Whether a stream gets text; "auto" means where a person looks on."""
    return style == "text" or (style == "auto" and stream.isatty())


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream; those of the access log in one piece a turn of the event loop.

    A busy server writes thousands of them a second, and `logging` spends more on one than the
    server on its request.
    """

    def __init__(self, stream: TextIO, formatter: logging.Formatter, *, worker: int = 0) -> None:
        """Begin with nothing to write; ``worker`` is the number of the one that writes, or 0."""
        super().__init__(stream)
        self._about = {"worker": worker} if worker else {}
        self.setFormatter(formatter)
        self._lines: list[bytes] = []

    def access(self, level: str, fields: Mapping[str, object], about: Mapping[str, str]) -> None:
        """Write the line of one request, at the latest when the event loop's turn ends."""
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "logger": _ACCESS.name,
            "message": _REQUEST,
            **self._about,
            **about,
            **fields,
        }
        first = not self._lines
        self._lines.append(orjson.dumps(record, default=str))
        if first:
            try:
                asyncio.get_running_loop().call_soon(self._end_turn)
            except RuntimeError:
                # Nothing takes turns here.
                self._end_turn()

    def _end_turn(self) -> None:
        with suppress(OSError, ValueError):
            self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record behind the lines that came before it."""
        self._write_lines()
        super().emit(record)

    def flush(self) -> None:
        """Write what waits."""
        self._write_lines()
        super().flush()

    def _write_lines(self) -> None:
        lines, self._lines = self._lines, []
        if not lines:
            return
        # A full disk or a closed pipe costs lines, as it does with every other record.
        with suppress(OSError, ValueError):
            self.stream.write(b"\n".join(lines).decode() + "\n")


def configure(
    *, level: str = "info", style: Style = "auto", stream: TextIO | None = None, worker: int = 0
) -> None:
    """Send everything to one stream, standard error if none is given; called once at start.

    ``worker`` is the number of the worker that writes, 0 for any other process.
    ``level`` holds for our own lines; of other packages only warnings and errors are written.
    """
    out = stream or sys.stderr
    text = is_text(style, out)
    formatter = (
        TextFormatter(colours=out.isatty(), worker=worker) if text else JsonFormatter(worker=worker)
    )
    root = logging.getLogger()
    root.handlers[:] = [LineHandler(out, formatter, worker=worker)]
    root.setLevel(logging.WARNING)
    logging.getLogger("onnxport").setLevel(level.upper())


def access(
    fields: Mapping[str, str | float], about: Mapping[str, str], *, quiet: bool = False
) -> None:
    """Write the line of one request; ``quiet`` ones, such as probes, only at level debug.

    ``about`` holds the ids of the request, of which a text has only its own.
    """
    level = logging.DEBUG if quiet else logging.INFO
    if not _ACCESS.isEnabledFor(level):
        return
    handler = logging.root.handlers[0] if logging.root.handlers else None
    if isinstance(handler, LineHandler) and isinstance(handler.formatter, JsonFormatter):
        handler.access("debug" if quiet else "info", fields, about)
    else:
        _ACCESS.log(level, _REQUEST, extra={_FIELDS: fields})


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
