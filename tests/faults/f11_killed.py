"""F11: one worker of two is killed every five seconds, under load."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from dataclasses import dataclass

from tests.faults.hostile import repository
from tests.faults.rig import (
    Lost,
    Report,
    address_of,
    infer_body,
    patiently,
    read_answer,
    request,
    serving,
    tree_of,
)
from tests.support.servers import RealServer

CALLERS = 16
EVERY = 5.0
INFER = request("/v2/models/doubler/infer", infer_body())
COUNTER = "onnxport_requests_total"


@dataclass(slots=True)
class Counts:
    """What the callers have seen."""

    sent: int = 0
    failed: int = 0
    twice: int = 0
    done: bool = False


async def _call(address: tuple[str, int], counts: Counts) -> None:
    """Ask until told to stop; try again, once, what was lost."""
    streams = await asyncio.open_connection(*address)
    failures = 0
    while not counts.done:
        counts.sent += failures == 0
        try:
            streams[1].write(INFER)
            answer = await read_answer(streams[0])
            wrong = answer.status != 200
        except Lost:
            wrong = True
        if wrong:
            failures += 1
            counts.failed += failures == 1
            counts.twice += failures == 2
            streams[1].close()
            streams = await asyncio.open_connection(*address)
        else:
            failures = 0
            await asyncio.sleep(0.005)
    streams[1].close()


async def _get(address: tuple[str, int], path: str) -> tuple[int, str]:
    while True:
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(request(path, head="connection: close\r\n"))
            answer = await read_answer(reader)
        except Lost:
            # It was on the worker that has just been killed.
            continue
        finally:
            writer.close()
        return answer.status, answer.body.decode()


async def _counted(address: tuple[str, int]) -> float:
    _, page = await _get(address, "/metrics")
    lines = (line for line in page.splitlines() if line.startswith(COUNTER))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def _workers(server: RealServer) -> list[int]:
    return [pid for pid in tree_of(server.process.pid) if pid != server.process.pid]


async def _replaced(server: RealServer, address: tuple[str, int]) -> float:
    """Return the seconds until there are two workers with their models again."""
    begun = time.monotonic()
    await patiently(lambda: _wait_for_a_worker(server))
    while (await _get(address, "/v2/health/ready"))[0] != 200:
        pass
    return time.monotonic() - begun


def _wait_for_a_worker(server: RealServer) -> None:
    while not str(server.line()["message"]).endswith("has tried its models"):
        pass


async def measure(server: RealServer, report: Report, seconds: float) -> None:
    """Print the figures."""
    address, counts = address_of(server), Counts()
    callers = [asyncio.create_task(_call(address, counts)) for _ in range(CALLERS)]
    ready, backwards, before, kills = [], 0, 0.0, 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(EVERY / 2)
        victim = _workers(server)[kills % 2]
        os.kill(victim, signal.SIGKILL)
        kills += 1
        ready.append(await _replaced(server, address))
        now = await _counted(address)
        backwards += now < before
        before = now
        await asyncio.sleep(EVERY / 2)
    counts.done = True
    await asyncio.gather(*callers)
    share = counts.failed / counts.sent
    report.figure("kills", kills)
    report.figure("requests", counts.sent)
    most = kills * CALLERS
    report.figure("failed", f"{counts.failed} ({share:.3%})", good=counts.failed <= most,
                  goal="those on the dead worker")  # fmt: skip
    report.figure("failed again when tried once more", counts.twice, good=counts.twice == 0,
                  goal="0")  # fmt: skip
    slowest = max(ready)
    report.figure("ready again after", f"{slowest:.2f} s at most", good=slowest <= 3, goal="3 s")
    report.figure("counters that went back", backwards, good=backwards == 0, goal="0")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    report = Report("F11")
    with serving(repository, "--workers", 2) as server:
        asyncio.run(measure(server, report, parser.parse_args().seconds))
    report.close()


if __name__ == "__main__":
    main()
