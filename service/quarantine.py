"""Which model ended a worker, and when it has done so too often: rules on plain values."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from service.blackbox import Mark

WINDOW: Final = 600.0
LOAD_DEATHS: Final = 2
# What the processor or the C library send to a process that did something it must not.
FAULTS: Final = frozenset(
    {
        signal.SIGSEGV, signal.SIGFPE, signal.SIGBUS, signal.SIGILL, signal.SIGABRT, signal.SIGSYS,
        signal.SIGTRAP,
    }
)  # fmt: skip
_CURRENT = re.compile(rb"Current thread 0x([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Death:
    """One end of a worker that a version is blamed for; ``when`` is a monotonic time."""

    mark: Mark
    when: float


def suspects(marks: Sequence[Mark], signal_number: int, trace: bytes) -> list[Mark]:
    """Return the marks of the versions that are to blame for a worker's end.

    After a fault it is what the faulting thread was doing, as the ``trace`` of the interpreter
    tells, and if it does not tell, everything that was being done.  SIGKILL comes from people
    and from the kernel that is out of memory; only a load that had the worker for itself is
    blamed for it.
    """
    if signal_number in FAULTS:
        found = _CURRENT.search(trace)
        thread = int(found[1], 16) if found else 0
        return [mark for mark in marks if mark.thread == thread] or list(marks)
    if signal_number == signal.SIGKILL and len(marks) == 1 and marks[0].loading:
        return list(marks)
    return []


def too_often(deaths: Iterable[Death], now: float, limit: int) -> bool:
    """Whether one version's deaths are enough to serve it no more.

    ``limit`` within ten minutes are, and two while loading, since that would repeat for ever.
    """
    recent = [death for death in deaths if now - death.when <= WINDOW]
    loading = sum(death.mark.loading for death in recent)
    return len(recent) >= limit or loading >= min(limit, LOAD_DEATHS)


def reason_of(deaths: Iterable[Death], now: float) -> str:
    """Say why a version is not served any more."""
    recent = [death for death in deaths if now - death.when <= WINDOW]
    while_loading = all(death.mark.loading for death in recent)
    doing = " while it was loaded" if while_loading else ""
    return (
        f"quarantined: it ended its worker process {len(recent)} times{doing}; it is tried again "
        "when its files change or it is loaded by request"
    )
