"""How much memory a worker may use."""

from __future__ import annotations

import subprocess
import sys

from service.allowance import share_of


def test_workers_share_four_fifths() -> None:
    """The rest is for the supervisor, the page cache and others."""
    assert share_of(10 << 30, 2) == 4 << 30


def test_what_is_too_much_is_refused_and_the_process_lives() -> None:
    """Python sees it as an error of the one call."""
    script = """
from service.allowance import limit_memory
limit_memory(1 << 30)
try:
    bytearray(2 << 30)
except MemoryError:
    print(len(bytearray(64 << 20)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().strip() == str(64 << 20)
