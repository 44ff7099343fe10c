"""When a call is sent again, and when: rules over plain values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service.client.errors import (
    BadAnswer,
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    NotFound,
    Refused,
    ServerFailed,
    Unavailable,
)
from service.client.retry import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Attempt,
    parse_retry_after,
    pause_before_retry,
)

FIRST = Attempt(number=1, retries=2, idempotent=True, remaining=30.0, jitter=1.0)
NOW = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


def test_what_was_not_sent_is_sent_again() -> None:
    """A refused connection is safe to repeat, also for what must not run twice."""
    once = replace(FIRST, idempotent=False)
    assert pause_before_retry(ConnectionFailed("x"), once) == FIRST_PAUSE


def test_a_broken_connection_is_met_again_only_if_running_twice_does_no_harm() -> None:
    """The server may have run it."""
    assert pause_before_retry(ConnectionLost("x"), FIRST) == FIRST_PAUSE
    assert pause_before_retry(ConnectionLost("x"), replace(FIRST, idempotent=False)) is None


@pytest.mark.parametrize("kind", [DeadlineExceeded, ServerFailed, Refused, NotFound, BadAnswer])
def test_what_may_run_or_cannot_help_is_final(kind: type[ClientError]) -> None:
    """Neither a timeout nor a server's verdict is asked for again."""
    assert pause_before_retry(kind("x"), FIRST) is None


def test_a_refusal_to_run_is_repeated_when_the_server_said_and_only_if_it_said() -> None:
    """Retry-After is the pause; a 503 without it is a statement."""
    assert pause_before_retry(Unavailable("x", retry_after=7.0), FIRST) == 7.0
    assert pause_before_retry(Unavailable("x", retry_after=0.0), FIRST) == 0.0
    assert pause_before_retry(Unavailable("x"), FIRST) is None


def test_a_pause_that_outlasts_the_deadline_is_not_made() -> None:
    """The error comes at once instead of after a wait in vain."""
    brief = replace(FIRST, remaining=5.0)
    assert pause_before_retry(Unavailable("x", retry_after=5.0), brief) is None
    assert pause_before_retry(Unavailable("x", retry_after=4.9), brief) == 4.9


def test_attempts_end() -> None:
    """Two retries are two."""
    error = ConnectionFailed("x")
    tries = [pause_before_retry(error, replace(FIRST, number=number)) for number in (1, 2, 3)]
    assert [pause is None for pause in tries] == [False, False, True]
    assert pause_before_retry(error, replace(FIRST, retries=0)) is None


def test_pauses_grow_to_a_limit_and_are_spread() -> None:
    """Twice as long each time, and between half and all of it."""
    many = replace(FIRST, retries=99)
    error = ConnectionFailed("x")
    pauses = [pause_before_retry(error, replace(many, number=number)) for number in (1, 2, 3, 50)]
    assert pauses == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4, LONGEST_PAUSE]
    assert pause_before_retry(error, replace(many, jitter=0.0)) == FIRST_PAUSE / 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        (" 0 ", 0.0),
        ("Sat, 01 Mar 2025 12:00:09 GMT", 9.0),
        ("Sat, 01 Mar 2025 11:00:00 GMT", 0.0),
        ("Sat, 01 Mar 2025 12:00:09", 9.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    """What cannot be understood is as if it were not there."""
    assert parse_retry_after(text, NOW) == seconds
