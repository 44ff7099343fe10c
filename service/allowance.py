"""How much memory a worker may use, so that an absurd request ends itself and not the machine."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

from service.cpu import groups_around

_ROOT: Final = Path("/")
_SHARE: Final = 0.8
_FILES: Final = ("memory.max", "memory.limit_in_bytes")


def usable_bytes(root: Path = _ROOT) -> int:
    """Return the memory that the machine and the groups around this process leave, 0 if unknown.

    ``root`` is where ``proc`` and ``sys`` lie.
    """
    found = [total] if (total := _machine(root / "proc/meminfo")) else []
    for folder in groups_around("memory", root):
        for name in _FILES:
            try:
                text = (folder / name).read_text().strip()
            except OSError:
                continue
            if text.isdecimal():
                found.append(int(text))
    return min(found, default=0)


def share_of(total: int, workers: int) -> int:
    """Return the bytes that each of the workers may use, 0 for as many as it likes.

    All together leave a fifth to others: the supervisor, the page cache, the rest of the machine.
    """
    return int(total * _SHARE / workers)


def limit_memory(most: int) -> None:
    """Have the kernel refuse this process more than so many bytes of its own; 0 leaves it be.

    Memory that is refused is an error of the one run that asks for it.  What is limited is data,
    not addresses: files that are mapped and room that is only reserved cost nothing.
    """
    if most > 0:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _machine(file: Path) -> int:
    try:
        for line in file.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemTotal":
                return int(value.split()[0]) * 1024
    except OSError:
        pass
    return 0
