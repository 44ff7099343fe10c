"""How much memory a worker may use, so that an absurd request ends itself and not the machine."""

from __future__ import annotations

import resource
from typing import Final

_SHARE: Final = 0.8


def share_of(total: int, workers: int) -> int:
    """Return the bytes that each of the workers may use of the memory that there is.

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
