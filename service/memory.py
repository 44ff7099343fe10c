"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Have the C library return what it keeps of freed memory, where it knows how to (glibc).

    A closed session leaves its weights in the allocator's hands otherwise: after some reloads a
    process holds several times what its models need.  Takes milliseconds, so not on the loop.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
