"""Runs many seeds in two processes: ``python -m tests.simulation [SEEDS]``."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time

from tests.simulation.world import broken_in

PROCESSES = 2
SHOWN = 5


def processor_seconds() -> float:
    """Return what the ended children have used: on a busy machine the clock says little."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(seeds: int) -> int:
    """Run the seeds, print the figures, and return how many broke a law."""
    started = time.monotonic()
    parts = [range(first, seeds, PROCESSES) for first in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        found = [text for part in pool.map(broken_in, parts) for text in part]
        pool.close()
        pool.join()
    for text in found[:SHOWN]:
        print(text, file=sys.stderr)
    seconds = time.monotonic() - started
    used = processor_seconds()
    print(
        f"simulation: {seeds} seeds, {len(found)} broke a law, "
        f"{seconds:.1f} s by the clock, {used:.1f} s of {PROCESSES} processes"
    )
    return len(found)


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)))
