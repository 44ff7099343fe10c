"""Memory that is no longer needed, given back to the system."""

from __future__ import annotations

import ctypes
import gc


def outgrows(run_bytes: float, usual_bytes: float) -> bool:
    """Whether a run of so many input bytes is beyond the most that the warm-up has seen.

    ONNX Runtime keeps the memory of the largest run for ever.  A rare huge one should give it
    back, and only that one: after it the memory has to be fetched again.
    """
    return run_bytes > usual_bytes


def give_back() -> None:
    """Have the C library return what it keeps of freed memory, where it knows how to (glibc).

    A closed session leaves its weights in the allocator's hands otherwise: after some reloads a
    process holds several times what its models need.  Takes milliseconds, so not on the loop.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_for_good() -> None:
    """Tell the garbage collector that all objects which live now will stay.

    A full collection walks every object there is.  Over the modules of a serving process that
    takes tens of milliseconds, in which nothing is answered, and frees nothing.
    """
    gc.collect()
    gc.freeze()


def let_go() -> None:
    """Undo `keep_for_good`: what lives is looked at again."""
    gc.unfreeze()
