"""F04: ten thousand connections that were used once and then not again."""

from __future__ import annotations

import argparse
import asyncio
import resource
import time

from tests.faults.hostile import repository
from tests.faults.rig import (
    Probe,
    Report,
    address_of,
    read_answer,
    request,
    resident,
    serving,
)
from tests.support.servers import RealServer

IDLE = 60
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(address: tuple[str, int], count: int) -> list[Streams]:
    opened: list[Streams] = []
    slots = asyncio.Semaphore(200)

    async def one() -> None:
        async with slots:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(request("/v2/health/live"))
            await read_answer(reader)
            # A writer that is forgotten ends its connection.
            opened.append((reader, writer))

    await asyncio.gather(*(one() for _ in range(count)))
    return opened


async def measure(server: RealServer, report: Report, count: int) -> None:
    """Print the figures."""
    address, pid = address_of(server), server.process.pid
    await _connect(address, 50)
    before = resident(pid)
    begun = time.monotonic()
    opened = await _connect(address, count)
    probe = Probe(address)
    probing = asyncio.create_task(probe.run())
    await asyncio.sleep(3)
    growth = resident(pid) - before
    held = sum(not reader.at_eof() for reader, _ in opened)
    report.figure("connections", f"{held} open after {time.monotonic() - begun:.0f} s")
    report.figure("resident memory", f"+{growth:.0f} MB", good=growth <= 80, goal="+80 MB")
    p99 = probe.p99
    report.figure("p99 of health meanwhile", f"{p99:.0f} ms", good=p99 <= 50, goal="50 ms")
    await asyncio.sleep(IDLE + 5)
    probing.cancel()
    still = sum(not reader.at_eof() for reader, _ in opened)
    report.figure("open after the idle limit", still, good=still == 0, goal="0")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = Report("F04")
    with serving(repository, "--workers", 2, "--keep-alive", IDLE) as server:
        asyncio.run(measure(server, report, parser.parse_args().connections))
    report.close()


if __name__ == "__main__":
    main()
