"""When a call may be sent again, and how long to wait before it: rules over plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from service.client.errors import ClientError, ConnectionFailed, ConnectionLost, Unavailable

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known when an attempt has failed; times in seconds.

    ``number`` counts from 1.  ``jitter`` is in [0, 1]: clients that failed together must not come
    back together.
    """

    number: int
    retries: int
    idempotent: bool
    remaining: float
    jitter: float


def pause_before_retry(error: ClientError, attempt: Attempt) -> float | None:
    """Return how long to wait before the next attempt, or None if the error is the answer.

    Only what cannot run twice is sent again: a request that never left, one that the server
    refused to run and said when to come back, and, where it is idempotent, one whose connection
    broke.  A timeout is not: the server may still be at it, and the time is spent.
    """
    if attempt.number > attempt.retries:
        return None
    pause = _pause(error, attempt)
    return pause if pause is not None and pause < attempt.remaining else None


def _pause(error: ClientError, attempt: Attempt) -> float | None:
    if isinstance(error, Unavailable):
        return error.retry_after
    if isinstance(error, ConnectionFailed) or (
        isinstance(error, ConnectionLost) and attempt.idempotent
    ):
        pause = min(FIRST_PAUSE * 2.0 ** (attempt.number - 1), LONGEST_PAUSE)
        return pause * (1 + attempt.jitter) / 2
    return None


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds in a Retry-After header, a number or a date, or None without a sense."""
    text = (text or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    # A date without a zone is in UTC, as HTTP's dates all are.
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())
