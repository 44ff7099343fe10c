"""Workers that die, hang, or hold a run that does not end: who is replaced, and who is to blame."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
from collections.abc import Mapping
from typing import Final

from service import blackbox
from service.blackbox import Mark
from service.children import Child
from service.control import Culprit, Leave, Ping, Stuck
from service.desk import Desk
from service.logs import printable
from service.quarantine import Death, reason_of, suspects, too_often
from service.seat import Seat

_log = logging.getLogger("onnxport.supervisor")
_BEATS: Final = 10
_LONGEST_BEAT: Final = 1.0
# How long the interpreter of a worker may take to write where it hangs.
_LAST_WORDS: Final = 2.0


class Care:
    """Looks after the workers; everything here happens on the supervisor's event loop."""

    def __init__(
        self,
        seats: Mapping[int, Seat],
        desk: Desk,
        *,
        deaths: int,
        hang_timeout: float,
        grace: float,
    ) -> None:
        """Keep the parts; seconds, and how many ``deaths`` a version may cause."""
        self._seats = seats
        self._desk = desk
        self._limit = deaths
        self._grace = grace
        self._beat = min(_LONGEST_BEAT, hang_timeout / _BEATS)
        self._most = math.ceil(hang_timeout / self._beat)
        self._deaths: dict[tuple[str, int, str], list[Death]] = {}
        self._loop = asyncio.get_running_loop()

    async def watch(self) -> None:
        """Ask every worker for a sign of life until cancelled.

        What counts is how many were asked for in vain: the time says nothing where this process
        itself was kept from running.
        """
        while True:
            for seat in self._seats.values():
                if not seat.up:
                    seat.unanswered = 0
                elif seat.unanswered >= self._most:
                    self._hangs(seat)
                else:
                    seat.unanswered += 1
                    seat.send(Ping(seat.unanswered))
            await asyncio.sleep(self._beat)

    def alive(self, seat: Seat) -> None:
        """Note a sign of life."""
        seat.unanswered = 0

    def _hangs(self, seat: Seat) -> None:
        """End a worker whose event loop does not turn; what it says last tells who is to blame."""
        seat.unanswered = 0
        child = seat.child
        if child is None:
            return
        _log.error(
            "worker %d has shown no sign of life for %.0f s and is ended",
            seat.number,
            self._most * self._beat,
        )
        child.process.send_signal(signal.SIGABRT)
        self._loop.call_later(_LAST_WORDS, _kill, child)

    def stuck(self, seat: Seat, message: Stuck) -> None:
        """Replace a worker with a run that does not end: it answers the rest, and then goes."""
        child = seat.child
        if child is None:
            return
        if not seat.leaving:
            seat.leaving = True
            _log.error(
                "worker %d makes room for another one: model %s version %d does not come back",
                seat.number,
                printable(message.model),
                message.version,
            )
            seat.send(Leave())
            self._loop.call_later(self._grace, _kill, child)
        key = (message.model, message.version)
        marks = [m for m in blackbox.read_marks(child.box) if (m.model, m.version) == key]
        # One mark a thread, and one death a worker.
        self._note(marks[:1], "running")

    def blame(self, box: int, number: int) -> None:
        """Find out from a dead worker's memory who has ended it."""
        marks = suspects(blackbox.read_marks(box), number, blackbox.read_trace(box))
        self._note([mark for mark in marks if mark.loading], "being loaded")
        self._note([mark for mark in marks if not mark.loading], "running")

    def _note(self, marks: list[Mark], doing: str) -> None:
        now = time.monotonic()
        for mark in marks:
            _log.error("model %s version %d was %s", printable(mark.model), mark.version, doing)
            deaths = self._deaths.setdefault((mark.model, mark.version, mark.fingerprint), [])
            deaths.append(Death(mark, now))
            if too_often(deaths, now, self._limit):
                reason = reason_of(deaths, now)
                self._desk.condemn(Culprit(mark.model, mark.version, mark.fingerprint, reason))
                # Whoever loads it by request gets as many tries as at first.
                deaths.clear()


def _kill(child: Child) -> None:
    if child.process.poll() is None:
        child.process.kill()
