"""Log lines for machines and for people."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import logs, tracing
from service.tracing import Trace
from service.web.visit import Visit


class Terminal(StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    root, ours = logging.getLogger(), logging.getLogger("onnxport")
    before = (root.handlers[:], root.level, ours.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


LOG = logging.getLogger("onnxport.test")
ABOUT = {"request_id": "r", "trace_id": "t", "span_id": "s"}


def test_json_lines_carry_time_level_and_request_id() -> None:
    """One object a line, with the id of the request that caused it."""
    stream = StringIO()
    logs.configure(stream=stream)
    token = tracing.current.set(Visit(b"abc", "GET", "/", ""))
    LOG.warning("caf\u00e9 %d", 7, extra={"fields": {"model": "m"}})
    tracing.current.reset(token)
    LOG.info("later")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["message"] == "caf\u00e9 7"
    assert (first["level"], first["logger"]) == ("warning", "onnxport.test")
    assert (first["request_id"], first["model"]) == ("abc", "m")
    assert first["time"].endswith("+00:00")
    assert "request_id" not in second


@given(st.text())
def test_no_text_can_break_a_json_line(text: str) -> None:
    """Whatever a caller smuggles into a text, it stays one ASCII line that reads back."""
    record = logging.LogRecord("n", logging.INFO, "p", 1, "%s", (text,), None)
    line = logs.JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == text


@given(st.text())
def test_printable_escapes_what_is_not(text: str) -> None:
    """Control bytes and marks that turn the writing direction become escapes."""
    assert logs.printable(text).isprintable()


def test_text_for_a_terminal() -> None:
    """Time, level, message and fields on one line, warnings in colour."""
    stream = Terminal()
    logs.configure(stream=stream)
    token = tracing.current.set(Visit(b"abc", "GET", "/", ""))
    LOG.warning("two\nlines", extra={"fields": {"path": "/\x1b"}})
    tracing.current.reset(token)
    line = stream.getvalue()
    assert line.endswith(" two\\nlines path=/\\x1b request_id=abc\n")
    assert "\033[33mWARNING\033[0m" in line


def test_text_elsewhere_has_no_colours() -> None:
    """A file gets text only on request, and then without escapes."""
    stream = StringIO()
    logs.configure(style="text", stream=stream)
    LOG.error("bad")
    assert stream.getvalue().endswith(" ERROR bad\n")
    assert "\033" not in stream.getvalue()


@pytest.mark.parametrize("style", ["text", "json"])
def test_tracebacks_are_kept(style: logs.Style) -> None:
    """An unexpected error can be found in either form."""
    stream = StringIO()
    logs.configure(style=style, stream=stream)
    try:
        raise ValueError("why")  # noqa: TRY301 - the traceback is what is tested
    except ValueError:
        LOG.exception("failed")
    assert "ValueError: why" in stream.getvalue()


def test_the_level_holds_for_our_lines_only() -> None:
    """Debugging the server does not open the floodgates of its libraries."""
    stream = StringIO()
    logs.configure(level="debug", style="text", stream=stream)
    LOG.debug("ours")
    logging.getLogger("library").info("theirs")
    logging.getLogger("library").warning("theirs, but grave")
    assert [line.split(maxsplit=2)[2] for line in stream.getvalue().splitlines()] == [
        "ours",
        "theirs, but grave",
    ]


def test_access_lines_can_be_quiet() -> None:
    """A quiet request is a line only at level debug."""
    stream = StringIO()
    logs.configure(stream=stream)
    logs.access({"path": "/a"}, ABOUT)
    logs.access({"path": "/b"}, ABOUT, quiet=True)
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record["path"] == "/a"
    assert ABOUT.items() <= record.items()


def test_lines_of_a_request_carry_its_trace() -> None:
    """So that a log and a trace of one request find each other."""
    stream = StringIO()
    logs.configure(stream=stream)
    visit = Visit(b"r", "GET", "/", "", trace=Trace("a" * 32, "b" * 16, recorded=False))
    token = tracing.current.set(visit)
    try:
        LOG.warning("within")
    finally:
        tracing.current.reset(token)
    LOG.warning("without")
    within, without = map(json.loads, stream.getvalue().splitlines())
    assert (within["trace_id"], within["span_id"]) == ("a" * 32, "b" * 16)
    assert "trace_id" not in without


async def test_access_lines_are_written_when_the_turn_ends() -> None:
    """Those of one turn of the event loop in one piece, and in order with all other records."""
    stream = StringIO()
    logs.configure(stream=stream)
    for path in ("/a", "/b"):
        logs.access({"path": path}, ABOUT)
    assert not stream.getvalue()
    await asyncio.sleep(0)
    assert [json.loads(line)["path"] for line in stream.getvalue().splitlines()] == ["/a", "/b"]
    logs.access({"path": "/c"}, ABOUT)
    logging.getLogger("onnxport.test").warning("later")
    *_, third, last = map(json.loads, stream.getvalue().splitlines())
    assert (third["path"], last["message"]) == ("/c", "later")


async def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    """Lines are lost, as with every other record, and requests go on."""
    stream = StringIO()
    logs.configure(stream=stream)
    logs.access({"path": "/a"}, ABOUT)
    stream.close()
    await asyncio.sleep(0)
    logs.access({"path": "/b"}, ABOUT)
    logs.configure(stream=StringIO())


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_worker_says_which_one_it_is(style: logs.Style) -> None:
    """Every line of it carries its number; other processes have none."""
    stream, other = StringIO(), StringIO()
    logs.configure(style=style, stream=stream, worker=3)
    LOG.info("here")
    logs.configure(style=style, stream=other)
    LOG.info("there")
    assert ('"worker": 3' if style == "json" else "worker=3") in stream.getvalue()
    assert "worker" not in other.getvalue()
