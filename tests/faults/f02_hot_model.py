"""F02: one model of two is asked ten times what it can do; the other one must not suffer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.faults.crowd import Crowd
from tests.faults.rig import Report, address_of, infer_body, quantile, request, serving
from tests.support.graphs import write_loop

DEADLINE = 1.0
SECONDS = 10.0
CALLERS = 24


def two(root: Path) -> None:
    """Put two models of some 30 ms a run into a repository."""
    for name in ("hot", "calm"):
        write_loop(root / f"{name}.onnx", 12_000)


async def measure(address: tuple[str, int], report: Report) -> None:
    """Print the figures."""
    hot, calm = (
        Crowd(address, request(f"/v2/models/{name}/infer", infer_body()))
        for name in ("hot", "calm")
    )
    await calm.saturate(2, CALLERS)
    peak = await calm.saturate(4, CALLERS)
    report.figure("peak of one model alone", f"{peak:.0f} answers/s")
    # Half of what is its own when two models share the core.
    rate = peak / 4
    alone = await calm.send(rate, SECONDS)
    beside, flooded = await asyncio.gather(calm.send(rate, SECONDS), hot.send(peak * 10, SECONDS))
    served = len(beside.good) / max(1, int(rate * SECONDS))
    report.figure("calm model served", f"{served:.1%}", good=served >= 0.95, goal="95%")
    before, after = quantile(alone.good, 0.99) * 1e3, quantile(beside.good, 0.99) * 1e3
    report.figure("its p99 alone", f"{before:.0f} ms")
    report.figure("its p99 beside the hot one", f"{after:.0f} ms", good=after <= DEADLINE * 1e3,
                  goal="within the deadline of 1 s")  # fmt: skip
    hot_rate = len(flooded.good) / SECONDS
    report.figure("hot model", f"{hot_rate:.0f} answers/s, {len(flooded.refusals)} refused")
    report.figure("malformed refusals", flooded.malformed, good=not flooded.malformed, goal="0")
    hot.close()
    calm.close()


def main() -> None:
    """Print the figures."""
    report = Report("F02")
    flags = ("--deadline", DEADLINE, "--max-batch-rows", 8, "--workers", 1, "--threads", 1)
    with serving(two, *flags, core=0) as server:
        asyncio.run(measure(address_of(server), report))
    report.close()


if __name__ == "__main__":
    main()
