"""Threads for runs of models; one that never comes back is made up for, and not waited for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final

_Work = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]
_END: Final = None


class Pool(Executor):
    """A fixed number of threads that work off one queue.

    Unlike the library's, a process can end while one of them is in a run that does not end, and
    another thread can take its place.
    """

    def __init__(self, threads: int, name: str) -> None:
        """Start no thread before there is work."""
        self._name = name
        self._size = threads
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        # Changed under the lock.
        self._threads: list[threading.Thread] = []
        self._lost = 0
        self._closed = False

    @property
    def lost(self) -> int:
        """How many threads were given up."""
        return self._lost

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - as the library has it
        """Have a call done by the next free thread; raises RuntimeError after the end."""
        if kwargs:
            raise TypeError("keyword arguments are not passed on")
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("no calls after shutdown")
            self._work.put((future, fn, args))
            if len(self._threads) < self._size:
                self._start()
        return future

    def give_one_up(self) -> None:
        """Have another thread work instead of one that is in a call which does not end."""
        with self._lock:
            self._lost += 1
            self._size += 1
            if not self._closed:
                self._start()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the library's signature
        """End the threads when the queue is empty; where one was given up nobody is waited for."""
        del cancel_futures
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            for _ in threads:
                self._work.put(_END)
        if wait and not self._lost:
            for thread in threads:
                thread.join()

    def _start(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        # A daemon: the end of the process must not wait for a run that does not end.
        thread = threading.Thread(target=self._work_off, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work_off(self) -> None:
        while (item := self._work.get()) is not _END:
            future, function, arguments = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = function(*arguments)
            # Whatever a call raises is its caller's to see, as with the library's threads.
            except BaseException as error:  # noqa: BLE001
                future.set_exception(error)
            else:
                future.set_result(result)
            # A thread that waits must not keep what it has worked on.
            del item, future, function, arguments
