"""An event loop whose clock is virtual and whose order is drawn: the same seed, the same run."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from random import Random
from typing import Any, cast

MAX_TURNS = 20_000


class Stalled(Exception):
    """Nothing is ready and no timer is set, though somebody still waits; or turns never end."""


class VirtualLoop:
    """Runs what is ready in drawn order, and moves the clock when nothing is.

    It has what futures, tasks and the scheduler need of an event loop; there is nothing to read.
    """

    def __init__(self, random: Random) -> None:
        """Begin at time 0."""
        self._random = random
        self._now = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._self = cast(asyncio.AbstractEventLoop, self)
        self.errors: list[dict[str, Any]] = []

    def time(self) -> float:
        """Return the virtual seconds since the beginning."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass in which the loop does nothing: somebody blocks it."""
        self._now += seconds

    def get_debug(self) -> bool:
        """Say no."""
        return False

    def is_closed(self) -> bool:
        """Say no."""
        return False

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """Make a call ready."""
        handle = asyncio.Handle(callback, args, self._self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Make a call ready: there are no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Make a call ready after virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Make a call ready at a virtual time; who falls on one moment comes in drawn order."""
        handle = asyncio.TimerHandle(when, callback, args, self._self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave a cancelled timer where it is: it does nothing when it rings."""

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self._self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Return a task of this loop."""
        return asyncio.Task(coro, loop=self._self, **options)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what went wrong in a callback."""
        self.errors.append(context)

    def run(self, main: Any) -> None:
        """Run until ``main`` is done and nothing is ready; raises Stalled if that never comes."""
        # Here and with the handles: what every event loop has to call.
        asyncio._set_running_loop(self._self)
        try:
            task = self.create_task(main)
            for _ in range(MAX_TURNS):
                if task.done() and not self._ready:
                    task.result()
                    return
                self._turn()
            raise Stalled(f"livelock: {MAX_TURNS} turns, at {self._now:.6f} s")
        finally:
            asyncio._set_running_loop(None)

    def _turn(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not self._ready:
            if not timers:
                raise Stalled(f"deadlock: nothing is ready and no timer set, at {self._now:.6f} s")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(timers)[2])
        ready, self._ready = self._ready, []
        if len(ready) > 1:
            self._random.shuffle(ready)
        for handle in ready:
            if not handle.cancelled():
                handle._run()


class VirtualThreads(Executor):
    """Threads in virtual time: a call begins after a drawn wait, and ends after a drawn while."""

    def __init__(
        self,
        loop: VirtualLoop,
        wait: Callable[[], float],
        on_begin: Callable[[], None],
        on_end: Callable[[list[Any]], None],
    ) -> None:
        """Begin idle; ``wait`` draws how long a call waits for its thread.

        ``on_begin`` hears of every call that comes, and ``on_end`` of its end and its notes.
        """
        self._loop = loop
        self._wait = wait
        self._on_begin = on_begin
        self._on_end = on_end
        # Whether a call is in hand; who works in it adds to its seconds and its notes.
        self.inside = False
        self.busy = 0.0
        self.notes: list[Any] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Let a call begin later, by a drawn while."""
        future: Future[Any] = Future()
        self._on_begin()
        self._loop.call_later(self._wait(), self._begin, future, fn, args)
        return future

    def _begin(self, future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if not future.set_running_or_notify_cancel():
            self._on_end([])
            return
        self.inside, self.busy, self.notes = True, 0.0, []
        try:
            end = partial(future.set_result, fn(*args))
        except Exception as error:  # noqa: BLE001 - as a thread's executor does
            end = partial(future.set_exception, error)
        self.inside = False
        self._loop.call_later(self.busy, self._end, end, self.notes)

    def _end(self, end: Callable[[], None], notes: list[Any]) -> None:
        self._on_end(notes)
        end()
