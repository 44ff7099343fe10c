"""Freed memory goes back to the system."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from service.memory import give_back, outgrows

MEBIBYTE = 1 << 20


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) << 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep less")
def test_what_was_freed_is_given_back() -> None:
    """The allocator keeps blocks below one that is in use; afterwards they are the system's."""
    blocks = [bytearray(b"x" * (64 << 10)) for _ in range(2048)]
    kept = blocks[-1]
    del blocks
    before = resident()
    give_back()
    assert before - resident() > 64 * MEBIBYTE
    assert kept


def test_a_run_outgrows_what_the_warm_up_has_seen() -> None:
    """Only what is larger; before a warm-up nothing is."""
    assert [outgrows(size, 100) for size in (1, 100, 101)] == [False, False, True]
    assert not outgrows(1 << 40, float("inf"))
