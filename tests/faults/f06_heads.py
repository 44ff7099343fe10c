"""F06: heads of up to 128 MiB, and twenty thousand headers, while others ask for health."""

from __future__ import annotations

import asyncio
import time

from tests.faults.hostile import repository
from tests.faults.rig import Lost, Peak, Probe, Report, address_of, read_answer, serving
from tests.support.servers import RealServer

PIECE = 1 << 20


async def _pour(address: tuple[str, int], content: bytes, pieces: int) -> tuple[float, int]:
    """Send a head in pieces until the server reacts; return the seconds and the status, or 0."""
    reader, writer = await asyncio.open_connection(*address)
    reaction = asyncio.create_task(read_answer(reader))
    begun = time.monotonic()
    try:
        writer.write(b"GET /v2 HTTP/1.1\r\nhost: a\r\n")
        for _ in range(pieces):
            if reaction.done():
                break
            writer.write(content)
            await writer.drain()
        status = (await reaction).status
    except (ConnectionError, Lost):
        status = 0
    finally:
        reaction.cancel()
        await asyncio.gather(reaction, return_exceptions=True)
        writer.close()
    return time.monotonic() - begun, status


async def measure(server: RealServer, report: Report) -> None:
    """Print the figures."""
    address = address_of(server)
    calm = Probe(address)
    probing = asyncio.create_task(calm.run(0.02))
    await asyncio.sleep(2)
    probing.cancel()
    report.figure("p99 of health before", f"{calm.p99:.0f} ms")
    probe, memory = Probe(address), Peak(server.process.pid)
    beside = [asyncio.create_task(probe.run(0.02)), asyncio.create_task(memory.watch())]
    for name, content, pieces in (
        ("1 MiB in one header", b"x" * PIECE, 1),
        ("128 MiB in one header", b"x" * PIECE, 128),
        ("20,000 headers", b"x: y\r\n" * 20_000, 1),
    ):
        first = b"x: " if not content.startswith(b"x: ") else b""
        seconds, status = await _pour(address, first + content, pieces)
        good = seconds <= 0.1 and status in (431, 400, 0)
        report.figure(name, f"{status or 'ended'} after {seconds * 1e3:.0f} ms", good=good,
                      goal="431, 400 or the end in 100 ms")  # fmt: skip
    await asyncio.sleep(1)
    for task in beside:
        task.cancel()
    p99 = probe.p99
    report.figure("p99 of health meanwhile", f"{p99:.0f} ms", good=p99 <= 50, goal="50 ms")
    report.figure("resident memory", f"+{memory.growth:.0f} MB")


def main() -> None:
    """Print the figures."""
    report = Report("F06")
    with serving(repository, "--workers", 1) as server:
        asyncio.run(measure(server, report))
    report.close()


if __name__ == "__main__":
    main()
