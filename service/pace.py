"""How fast a queue empties, and what that means for the next who comes."""

from __future__ import annotations

import math
from typing import Final

# What was seen so many seconds ago counts a third of what is seen now.
_MEMORY: Final = 2.0
SHORTEST_ADVICE: Final = 1
LONGEST_ADVICE: Final = 60


def estimated_wait(queued_rows: int, rows: int, *, rate: float, run_seconds: float) -> float:
    """Return in how many seconds a job of so many rows would be answered, behind those queued.

    ``rate`` is the rows a second that were seen lately, 0 if nothing was; ``run_seconds`` is what
    a run takes, since one may have begun just now.  Behind an empty queue nobody is said to wait.
    """
    if not queued_rows or rate <= 0:
        return 0.0
    return (queued_rows + rows) / rate + run_seconds


def advice(queued_rows: int, rate: float) -> int:
    """Return after how many whole seconds to come again: when what waits now will be answered."""
    if rate <= 0:
        return SHORTEST_ADVICE
    # What a rate close to nothing promises is more than anybody can wait for.
    seconds = min(queued_rows / rate, LONGEST_ADVICE)
    return max(SHORTEST_ADVICE, math.ceil(seconds))


def hopeless(wait: float, left: float) -> str:
    """Return why a job with so many seconds left is not worth to begin, or nothing if it is."""
    if wait <= left:
        return ""
    return f"the answer would take about {wait:.2f} s, and {max(left, 0):.2f} s are left for it"


class Pace:
    """The rows a second with which one queue empties while it never runs dry."""

    __slots__ = ("_ended", "_rows", "_seconds", "run_seconds")

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._rows = self._seconds = self.run_seconds = 0.0
        # When the last run ended, if there was more to do then.
        self._ended: float | None = None

    @property
    def rate(self) -> float:
        """Rows a second, the latest weighing most; 0 if the queue was never full enough to say."""
        return self._rows / self._seconds if self._seconds > 0 else 0.0

    def note(self, rows: int, *, started: float, ended: float, waiting: bool) -> None:
        """Note a run; ``waiting`` says that there was more to do than could begin when it ended.

        Only from one such end to the next is the pace that of the model and not of its callers.
        """
        before, self._ended = self._ended, ended if waiting else None
        if before is None or ended <= before:
            return
        passed = ended - before
        kept = math.exp(-passed / _MEMORY)
        self._rows = self._rows * kept + rows
        self._seconds = self._seconds * kept + passed
        self.run_seconds = ended - started
