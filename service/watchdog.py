"""The one thread that looks after runs in the event loop, which cannot look after itself then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from service.lane import Stop
from service.scheduling import LOOP_BOUND, STUCK_AFTER, over_bound

# Looks at the loop without a run before the thread goes to sleep: looking costs a busy loop a few
# percent, and must cost an idle one nothing.
_QUIET_LOOKS = 50


class Watchdog:
    """Ends runs in the event loop that exceed their bound; one serves a whole process.

    The thread starts with the first run and sleeps while none comes.  Whether a run was ended is
    to be seen at its stop.
    """

    def __init__(self, *, bound: float = LOOP_BOUND, stuck_after: float = STUCK_AFTER) -> None:
        """Keep the seconds after which a run is ended, and after which it counts as stuck."""
        self.bound = bound
        self._stuck_after = stuck_after
        self._thread: threading.Thread | None = None
        self._awake = threading.Event()
        self._closed = False
        # Changed only by the loop's thread: the number before the stop, and read the other way
        # round, so that no run is held to be one that began before it.
        self._stop: Stop | None = None
        self._on_stuck: Callable[[float], None] = _ignore
        self._runs = 0
        # Whether the thread sleeps; changed only by itself.
        self.asleep = True

    def begin(self, stop: Stop, on_stuck: Callable[[float], None]) -> None:
        """Watch a run that begins now on this thread.

        ``on_stuck`` is called once, on the watching thread, with the seconds that a run has gone on
        although it was told to end.
        """
        self._on_stuck = on_stuck
        self._runs += 1
        self._stop = stop
        if self.asleep:
            self._wake()

    def end(self) -> None:
        """Watch no longer: the run has ended."""
        self._stop = None

    def close(self) -> None:
        """End the thread; no run may follow."""
        self._closed = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _wake(self) -> None:
        if self._thread is None and not self._closed:
            clock = _clock_of(threading.get_ident())
            self._thread = threading.Thread(
                target=self._watch, args=(clock,), name="watchdog", daemon=True
            )
            self._thread.start()
        self._awake.set()

    def _watch(self, processor: Callable[[], float]) -> None:
        quiet = seen = 0
        since = (0.0, 0.0)
        told = 0.0
        self.asleep = False
        while not self._closed:
            if quiet >= _QUIET_LOOKS:
                self._sleep(seen)
                quiet = 0
            time.sleep(self.bound / 2)
            stop, number, now = self._stop, self._runs, (processor(), time.monotonic())
            if number != seen:
                seen, since, told, quiet = number, now, 0.0, 0
            elif stop is None:
                quiet += 1
            elif not told and over_bound(now[0] - since[0], now[1] - since[1], self.bound):
                stop.stop()
                told = now[1]
            elif told and now[1] - told > self._stuck_after:
                self._on_stuck(now[1] - told)
                told = float("inf")

    def _sleep(self, seen: int) -> None:
        self._awake.clear()
        self.asleep = True
        # A run that began just before would otherwise be overslept.
        if self._runs == seen and not self._closed:
            self._awake.wait()
        self.asleep = False


def _clock_of(thread: int) -> Callable[[], float]:
    """Return what reads a thread's processor time, or the clock on systems that do not tell it."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


def _ignore(seconds: float) -> None:
    """Do nothing."""
