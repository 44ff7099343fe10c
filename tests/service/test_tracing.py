"""W3C trace context: what is read, what is kept, and what begins here."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tracing import Parent, Traces, read_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01".encode()
OWN = "0123456789abcdef0000000000000001"


def test_a_header_names_trace_parent_and_choice() -> None:
    """Only the lowest bit of the flags says that the trace is sampled."""
    assert read_parent(HEADER) == Parent(TRACE, SPAN, sampled=True)
    assert read_parent(HEADER[:-2] + b"fe") == Parent(TRACE, SPAN, sampled=False)


def test_later_versions_may_say_more() -> None:
    """What they say behind is not ours; version 00 says no more, and ff is none."""
    assert read_parent(b"cc" + HEADER[2:] + b"-what") == Parent(TRACE, SPAN, sampled=True)
    assert read_parent(b"cc" + HEADER[2:]) == Parent(TRACE, SPAN, sampled=True)
    assert read_parent(HEADER + b"-what") is None
    assert read_parent(b"ff" + HEADER[2:]) is None


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"hello",
        HEADER.upper(),
        HEADER + b" ",
        HEADER[:-1],
        b"cc" + HEADER[2:] + b"what",
        HEADER.replace(TRACE.encode(), b"0" * 32),
        HEADER.replace(SPAN.encode(), b"0" * 16),
        b"cc" + HEADER[2:] + b"-" * 1000,
    ],
)
def test_what_is_not_valid_begins_a_new_trace(header: bytes) -> None:
    """Nothing of it is kept, and the request is answered all the same."""
    assert read_parent(header) is None
    trace = Traces().begin(header, OWN)
    assert (trace.id, trace.span, trace.parent) == (OWN, OWN[16:], "")


@given(st.binary(max_size=80))
def test_no_header_breaks_it(header: bytes) -> None:
    """Whatever is sent, the ids are ids."""
    trace = Traces().begin(header, OWN)
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", trace.header())


def test_a_callers_trace_goes_on() -> None:
    """Its id and its choice are kept; the span is ours, and another one for each request."""
    traces = Traces()
    one, other = traces.begin(HEADER, OWN), traces.begin(HEADER, OWN[:-1] + "2")
    assert (one.id, one.parent, one.sampled) == (TRACE, SPAN, True)
    assert len({one.span, other.span, SPAN}) == 3
    assert one.header() == f"00-{TRACE}-{one.span}-01".encode()


def test_nothing_is_recorded_where_nobody_records() -> None:
    """A caller's sampled trace stays sampled, for those behind."""
    for header in (b"", HEADER):
        assert not Traces().begin(header, OWN).recorded
    assert Traces(recording=True).begin(HEADER, OWN).recorded
    assert not Traces(recording=True).begin(HEADER[:-1] + b"0", OWN).recorded


def test_a_ratio_of_the_traces_that_begin_here_is_recorded() -> None:
    """Evenly, not the first so many; a caller's own choice is kept."""
    for ratio in (0.0, 0.1, 0.5, 1.0):
        traces = Traces(recording=True, ratio=ratio)
        recorded = [traces.begin(b"", f"{OWN[:16]}{n:016x}").recorded for n in range(1, 1001)]
        assert abs(sum(recorded) - 1000 * ratio) <= 5
        assert abs(sum(recorded[:100]) - 100 * ratio) <= 5
        assert traces.begin(HEADER, OWN).recorded
