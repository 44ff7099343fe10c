"""Runs many seeds in two processes: ``python -m tests.simulation [SEEDS]``."""

from __future__ import annotations

import multiprocessing
import sys
import time

from tests.simulation.world import broken_in

PROCESSES = 2
SHOWN = 5


def main(seeds: int) -> int:
    """Run the seeds, print the figures, and return how many broke a law."""
    started = time.monotonic()
    parts = [range(first, seeds, PROCESSES) for first in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        found = [text for part in pool.map(broken_in, parts) for text in part]
    for text in found[:SHOWN]:
        print(text, file=sys.stderr)
    seconds = time.monotonic() - started
    print(f"simulation: {seeds} seeds, {len(found)} broke a law, {seconds:.1f} s")
    return len(found)


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)))
