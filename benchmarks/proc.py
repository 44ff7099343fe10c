"""What the kernel says of a server's processes and of the machine, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its CPU seconds are its own and those of its children that have ended."""

    pid: int
    parent: int
    session: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class MachineTimes:
    """CPU seconds of all cores since boot; ``stolen`` went to other guests of the host."""

    busy: float
    idle: float
    stolen: float


def parse_process(stat: str) -> Process:
    """Read ``/proc/<pid>/stat``; the name in it may hold blanks and brackets."""
    before, _, after = stat.rpartition(")")
    fields = after.split()
    ticks = sum(int(field) for field in fields[11:15])
    return Process(int(before.split("(", 1)[0]), int(fields[1]), int(fields[3]), ticks * _TICK)


def parse_machine(stat: str) -> MachineTimes:
    """Read the first line of ``/proc/stat``; a guest's time is already in user time."""
    user, nice, system, idle, wait, hard, soft, stolen = map(
        int, stat.split("\n", 1)[0].split()[1:9]
    )
    busy = user + nice + system + hard + soft
    return MachineTimes(busy * _TICK, (idle + wait) * _TICK, stolen * _TICK)


def parse_pss(rollup: str) -> int:
    """Read the bytes of ``/proc/<pid>/smaps_rollup``, shared pages divided among their users."""
    for line in rollup.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return 0


def family(processes: Iterable[Process], root: int) -> list[Process]:
    """Return the process ``root``, its descendants, and all others of the session it leads."""
    everyone = {process.pid: process for process in processes}

    def belongs(process: Process | None) -> bool:
        while process is not None:
            if root in (process.pid, process.session):
                return True
            process = everyone.get(process.parent)
        return False

    return [process for process in everyone.values() if belongs(process)]


def processes() -> list[Process]:
    """Return all processes of the machine that are there now."""
    found = []
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                found.append(parse_process((folder / "stat").read_text(errors="replace")))
    return found


def machine() -> MachineTimes:
    """Return the machine's CPU times so far."""
    return parse_machine((_PROC / "stat").read_text())


def resident_bytes(root: int) -> int:
    """Return the sum of the proportional set sizes (PSS) of a process's family."""
    total = 0
    for process in family(processes(), root):
        with suppress(OSError):
            total += parse_pss((_PROC / str(process.pid) / "smaps_rollup").read_text())
    return total
