"""F41: the repository and the registry under random changes, for as long as one likes."""

from __future__ import annotations

import argparse
import logging
import time

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.harness import report
from tests.support.repository_machine import RepositoryMachine


def main() -> None:
    """Do it; a step that is wrong ends it with the steps that led there."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--examples", type=int, default=200)
    options.add_argument("--steps", type=int, default=50)
    given = options.parse_args()
    # What is damaged on purpose is logged as damage.
    logging.disable()
    began = time.monotonic()
    chosen = settings(
        max_examples=given.examples,
        stateful_step_count=given.steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(RepositoryMachine, settings=chosen)
    seconds = round(time.monotonic() - began, 1)
    figures = {"examples": given.examples, "steps": given.steps, "seconds": seconds}
    raise SystemExit(report("F41", figures, {"no step is wrong": True}))


if __name__ == "__main__":
    main()
