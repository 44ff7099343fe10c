"""Which model is to blame for the end of a worker, and when it is tried no more."""

from __future__ import annotations

import signal

import pytest

from service.blackbox import Mark
from service.quarantine import WINDOW, Death, reason_of, suspects, too_often

RUNNING = Mark("m", 1, "ab", loading=False, thread=0x7F01)
LOADING = Mark("n", 2, "cd", loading=True, thread=0x7F02)
TRACE = (
    b"Fatal Python error: Floating point exception\n\n"
    b"Thread 0x0000000000007f01 (most recent call first):\n  File ...\n\n"
    b"Current thread 0x0000000000007f02 (most recent call first):\n  File ...\n"
)


def test_the_faulting_thread_tells() -> None:
    """What other threads were doing is not blamed."""
    assert suspects([RUNNING, LOADING], signal.SIGFPE, TRACE) == [LOADING]


@pytest.mark.parametrize("trace", [b"", TRACE.replace(b"7f02", b"7f99")])
def test_a_thread_that_is_not_ours(trace: bytes) -> None:
    """If nobody can tell, everything that was being done is suspected."""
    assert suspects([RUNNING, LOADING], signal.SIGSEGV, trace) == [RUNNING, LOADING]


def test_a_kill_from_outside() -> None:
    """It says nothing about a run; a load that was alone may have taken all memory."""
    assert suspects([RUNNING], signal.SIGKILL, b"") == []
    assert suspects([LOADING], signal.SIGKILL, b"") == [LOADING]
    assert suspects([LOADING, RUNNING], signal.SIGKILL, b"") == []
    assert suspects([LOADING], signal.SIGTERM, b"") == []


def deaths(mark: Mark, *times: float) -> list[Death]:
    """Return deaths at these times."""
    return [Death(mark, when) for when in times]


def test_runs_are_forgiven_more_often_than_loads() -> None:
    """A load repeats at every start, a request need not."""
    assert not too_often(deaths(RUNNING, 1, 2), 3, 3)
    assert too_often(deaths(RUNNING, 1, 2, 3), 3, 3)
    assert not too_often(deaths(LOADING, 1), 3, 3)
    assert too_often(deaths(LOADING, 1, 2), 3, 3)
    assert too_often(deaths(LOADING, 1), 3, 1)
    assert too_often([*deaths(LOADING, 1), *deaths(RUNNING, 2, 3)], 3, 3)


def test_only_the_last_ten_minutes_count() -> None:
    """An old death is none."""
    assert not too_often(deaths(RUNNING, 1, 2, WINDOW + 3), WINDOW + 3, 3)
    assert "2 times" in reason_of(deaths(RUNNING, 1, WINDOW, WINDOW + 3), WINDOW + 3)


def test_the_reason() -> None:
    """It says how often, when, and what to do."""
    text = reason_of(deaths(LOADING, 1, 2), 3)
    assert text.startswith("quarantined: it ended its worker process 2 times while it was loaded")
    assert "while" not in reason_of(deaths(RUNNING, 1, 2), 3)
