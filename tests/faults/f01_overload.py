"""F01: more is asked than can be answered, by callers who do not wait for answers.

The server has one core, the callers the other.  A model whose own cost sets the capacity is asked
at 2 and 10 times of it; what counts is what is answered in time, and what the others are told.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from tests.faults.crowd import Crowd, Seen
from tests.faults.rig import Peak, Report, address_of, infer_body, quantile, request, serving
from tests.support.graphs import write_loop

INFER = "/v2/models/slow/infer"
DEADLINE = 1.0
BATCH = 8
CALLERS = 3 * BATCH


def slow(root: Path) -> object:
    """Put a model of some 30 ms a run into a repository."""
    return write_loop(root / "slow.onnx", 12_000)


async def measure(address: tuple[str, int], pid: int, seconds: float, report: Report) -> None:
    """Print the figures of every load."""
    crowd = Crowd(address, request(INFER, infer_body()))
    await crowd.saturate(2, CALLERS)
    peak = await crowd.saturate(4, CALLERS)
    calm = await crowd.send(peak * 0.5, 5)
    usual = quantile(calm.good, 0.99)
    report.figure("p99 at half of it", f"{usual * 1e3:.0f} ms")
    memory = Peak(pid)
    watching = asyncio.create_task(memory.watch())
    for factor, share in ((0.8, None), (2, 0.9), (10, 0.85)):
        # The peak is taken before and after: other work of the machine is not to count.
        before = await crowd.saturate(4, CALLERS)
        seen = await crowd.send(before * factor, seconds)
        await crowd.send(before * 0.5, 2)
        again = await crowd.send(before * 0.5, 2)
        peak = (before + await crowd.saturate(4, CALLERS)) / 2
        report.figure(f"{factor}x peak", f"{peak:.0f} answers/s")
        _tell(report, f"{factor}x", seen, len(seen.good) / seconds / peak, share)
        back = quantile(again.good, 0.99)
        report.figure(
            f"{factor}x p99 after 2 s", f"{back * 1e3:.0f} ms", good=back <= max(4 * usual, 0.1)
        )
    watching.cancel()
    report.figure(
        "resident memory", f"+{memory.growth:.0f} MB", good=memory.growth <= 64, goal="+64 MB"
    )
    crowd.close()


def _tell(report: Report, load: str, seen: Seen, goodput: float, share: float | None) -> None:
    goal = f"{share:.0%}" if share else ""
    good = goodput >= share if share else None
    report.figure(f"{load} goodput", f"{goodput:.0%} of peak", good=good, goal=goal)
    p99 = quantile(seen.good, 0.99)
    report.figure(f"{load} p99 of answers", f"{p99 * 1e3:.0f} ms", good=p99 <= DEADLINE * 1.1,
                  goal=f"{DEADLINE * 1.1:.1f} s")  # fmt: skip
    refused = quantile(seen.refusals, 0.99)
    counts = f"{len(seen.refusals)} (p99 {refused * 1e3:.0f} ms)"
    report.figure(f"{load} refusals", counts)
    report.figure(f"{load} malformed refusals", seen.malformed, good=not seen.malformed, goal="0")
    report.figure(f"{load} too late (504)", seen.late)
    report.figure(f"{load} other answers", seen.other[:5], good=not seen.other, goal="[]")
    report.figure(f"{load} without an answer", seen.lost, good=not seen.lost, goal="0")
    report.figure(f"{load} not sent, for want of a free connection", seen.unsent)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    seconds = parser.parse_args().seconds
    report = Report("F01")
    flags = ("--deadline", DEADLINE, "--max-batch-rows", BATCH, "--workers", 1, "--threads", 1)
    with serving(slow, *flags, core=0) as server:
        asyncio.run(measure(address_of(server), server.process.pid, seconds, report))
    report.close()


if __name__ == "__main__":
    main()
