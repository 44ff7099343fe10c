"""F30 and F31: a corpus of hostile requests, then generated bodies."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.faults.bodies import bodies
from tests.faults.corpus import cases
from tests.faults.hostile import Outcome, repository, send_bodies, send_case
from tests.faults.rig import Report, address_of, quantile, resident, serving
from tests.support.servers import RealServer


async def _corpus(server: RealServer) -> Outcome:
    outcome = Outcome()
    for case in cases():
        await send_case(address_of(server), case, outcome)
    return outcome


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    report = Report("F30")
    flags = ("--workers", 1, "--head-timeout", 2, "--body-timeout", 2)
    with serving(repository, *flags) as server:
        _tell(report, "corpus", asyncio.run(_corpus(server)))
        # What the first requests leave behind, such as threads and caches, is no growth.
        before = resident(server.process.pid)
        report.fault = "F31"
        found = asyncio.run(send_bodies(address_of(server), bodies(asked.seed, asked.bodies)))
        _tell(report, "bodies", found)
        p999 = quantile(found.seconds, 0.999) * 1e3
        report.figure("p99.9", f"{p999:.0f} ms", good=p999 <= 250, goal="250 ms")
        growth = resident(server.process.pid) - before
        report.figure("resident memory", f"{growth:+.0f} MB", good=growth <= 32, goal="+32 MB")
        alive = server.process.poll() is None
        report.figure("the server lives", alive, good=alive, goal="True")
    report.close()


def _tell(report: Report, name: str, outcome: Outcome) -> None:
    report.figure(name, f"{len(outcome.seconds)} sent, {dict(outcome.statuses.most_common())}")
    slowest = max(outcome.seconds)
    report.figure(f"slowest of {name}", f"{slowest * 1e3:.0f} ms")
    faults = len(outcome.faults)
    report.figure(f"{name} that went wrong", faults, good=faults == 0, goal="0")
    for fault in outcome.faults[:20]:
        sys.stdout.write(f"  {fault}\n")


if __name__ == "__main__":
    main()
