"""One call on its way, and one wait for readiness: the rules that both clients follow."""

from __future__ import annotations

import random
from typing import Generic

from service.client.calls import Call, T, timeout_header
from service.client.errors import ClientError, DeadlineExceeded
from service.client.retry import Attempt, pause_before_retry
from service.client.transport import Options, check_seconds

LONGEST_PROBE = 5.0
_FIRST_LOOK = 0.05
_LONGEST_LOOK = 1.0
_JITTER = random.SystemRandom()


class Progress(Generic[T]):
    """One call on its way: its deadline and its attempts; the clients only wait and send."""

    def __init__(self, call: Call[T], options: Options, timeout: float | None, now: float) -> None:
        """Begin at ``now``, a monotonic time; ``timeout`` goes before the options'."""
        if timeout is not None:
            check_seconds("timeout", timeout)
        self.call = call.compressed() if options.compress else call
        self._options = options
        self._timeout = options.timeout if timeout is None else timeout
        self._deadline = now + self._timeout
        self._attempts = 0

    def begin(self, now: float) -> float:
        """Count an attempt and return the seconds it may take; raises DeadlineExceeded."""
        self._attempts += 1
        return self.remaining(now)

    def remaining(self, now: float) -> float:
        """Return the seconds that are left; raises DeadlineExceeded if none are."""
        left = self._deadline - now
        if left <= 0:
            raise DeadlineExceeded(f"no answer within {self._timeout:g} s")
        return left

    def headers(self, remaining: float) -> dict[str, str]:
        """Return the headers of one attempt."""
        return {**self.call.headers, **timeout_header(remaining)}

    def pause(self, error: ClientError, now: float) -> float | None:
        """Return how long to wait before another attempt, or None for no other."""
        attempt = Attempt(
            number=self._attempts,
            retries=self._options.retries if self.call.retried else 0,
            idempotent=self.call.idempotent,
            remaining=self._deadline - now,
            jitter=_JITTER.random(),
        )
        return pause_before_retry(error, attempt)


class Waiting:
    """A wait until something is ready: looks come more seldom the longer it takes."""

    def __init__(self, timeout: float, now: float) -> None:
        """Begin at ``now``, a monotonic time."""
        check_seconds("timeout", timeout)
        self._timeout = timeout
        self._deadline = now + timeout
        self._next = _FIRST_LOOK

    def probe_timeout(self, now: float) -> float:
        """Return the seconds that one look may take."""
        return max(_FIRST_LOOK, min(LONGEST_PROBE, self._deadline - now))

    def pause(self, reason: str, now: float) -> float:
        """Return the pause before the next look; raises DeadlineExceeded with the reason."""
        left = self._deadline - now
        if left <= 0:
            raise DeadlineExceeded(f"not ready after {self._timeout:g} s: {reason}")
        pause = min(self._next, left)
        self._next = min(self._next * 1.5, _LONGEST_LOOK)
        return pause
