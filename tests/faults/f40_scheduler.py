"""F40: the scheduler under a virtual clock; scenarios are drawn from seeds and keep all laws."""

from __future__ import annotations

import argparse
import time

from tests.faults.harness import report
from tests.simulation.__main__ import main as run_seeds


def main() -> None:
    """Do it and exit 1 if a law is broken."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=20_000)
    given = options.parse_args()
    began = time.monotonic()
    broken = run_seeds(given.seeds)
    figures = {"seeds": given.seeds, "broken": broken, "seconds": round(time.monotonic() - began)}
    raise SystemExit(report("F40", figures, {"laws": not broken}))


if __name__ == "__main__":
    main()
