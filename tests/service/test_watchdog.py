"""Runs in the loop that take too long are ended by somebody else than the loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from service.watchdog import Watchdog
from tests.support.batching import HandStop

PATIENCE = 10.0


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    """Return a watchdog that bites soon."""
    dog = Watchdog(bound=0.002, stuck_after=0.01)
    yield dog
    dog.close()


def work_until(happened: threading.Event) -> bool:
    """Use the processor until something has happened, or far too long."""
    end = time.monotonic() + PATIENCE
    while not happened.is_set() and time.monotonic() < end:
        pass
    return happened.is_set()


class LoudStop(HandStop):
    """Tells at once that it was used."""

    def __init__(self) -> None:
        """Begin unused."""
        super().__init__()
        self.used = threading.Event()

    def stop(self) -> None:
        """Tell it."""
        super().stop()
        self.used.set()


def ignore(seconds: float) -> None:
    """Do nothing."""


def test_a_run_that_takes_too_long_is_ended(watchdog: Watchdog) -> None:
    """It need not come back to be found."""
    stop = LoudStop()
    watchdog.begin(stop, ignore)
    assert work_until(stop.used)
    watchdog.end()


def test_short_runs_are_left_alone(watchdog: Watchdog) -> None:
    """A thousand of them in a row are not one long run."""
    stop = HandStop()
    for _ in range(1000):
        watchdog.begin(stop, ignore)
        watchdog.end()
    assert not stop.stopped


def test_a_run_after_a_long_sleep_is_watched(watchdog: Watchdog) -> None:
    """The thread is one for all runs, sleeps while there are none, and wakes for the next."""
    first, second = LoudStop(), LoudStop()
    watchdog.begin(first, ignore)
    assert work_until(first.used)
    watchdog.end()
    end = time.monotonic() + PATIENCE
    while not watchdog.asleep and time.monotonic() < end:
        time.sleep(0)
    assert watchdog.asleep
    watchdog.begin(second, ignore)
    assert work_until(second.used)
    watchdog.end()
    assert [t.name for t in threading.enumerate()].count("watchdog") == 1


def test_a_run_that_does_not_end_is_stuck(watchdog: Watchdog) -> None:
    """Somebody is told, on the watching thread, since the loop cannot be."""
    stop, told = LoudStop(), threading.Event()
    seconds: list[float] = []

    def on_stuck(passed: float) -> None:
        seconds.append(passed)
        told.set()

    watchdog.begin(stop, on_stuck)
    assert work_until(told)
    watchdog.end()
    assert stop.stopped
    assert len(seconds) == 1
    assert seconds[0] > 0.01


def test_closing_ends_the_thread() -> None:
    """Nothing is left of it."""
    dog = Watchdog()
    dog.begin(HandStop(), ignore)
    dog.end()
    dog.close()
    assert "watchdog" not in [thread.name for thread in threading.enumerate()]
