"""F10: the end is asked for while callers are busy; nothing that was sent may be lost."""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.rig import (
    Answer,
    Lost,
    Report,
    address_of,
    infer_body,
    patiently,
    read_answer,
    request,
    serving,
)
from tests.support.graphs import write_endless
from tests.support.models import write_doubler
from tests.support.servers import RealServer, real_server

CALLERS = 64
INFER = "/v2/models/doubler/infer"
DELAY = 1.0


@dataclass(slots=True)
class Counts:
    """What the callers have seen."""

    sent: int = 0
    answered: int = 0
    lost: int = 0
    odd: int = 0
    unannounced: int = 0


async def call(address: tuple[str, int], pause: float, counts: Counts) -> None:
    """Ask on one connection, and on a new one after each that the server ends, until refused."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(*address)
        except ConnectionError:
            return
        try:
            while True:
                writer.write(request(INFER, infer_body()))
                counts.sent += 1
                answer = await read_answer(reader)
                counts.answered += 1
                counts.odd += answer.status != 200
                if answer.last:
                    break
                # An idle connection that the server ends is no loss, but is noted.
                rest = asyncio.ensure_future(reader.read(1))
                done, _ = await asyncio.wait([rest], timeout=pause)
                if done:
                    counts.unannounced += 1
                    break
                rest.cancel()
                await asyncio.gather(rest, return_exceptions=True)
        except Lost:
            counts.lost += 1
        finally:
            writer.close()


async def until_not_ready(address: tuple[str, int]) -> float:
    """Return when the ready answer is no longer 200, each time on a new connection."""
    while True:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request("/v2/health/ready"))
        answer: Answer = await read_answer(reader)
        writer.close()
        if answer.status == 503:
            return time.monotonic()
        await asyncio.sleep(0.002)


async def drained(server: RealServer, counts: Counts) -> tuple[float, float, int]:
    """End a server under load; return seconds to not ready, seconds to the end, exit code."""
    address = address_of(server)
    # Half of them busy, half with pauses in which their connections are idle.
    callers = [
        asyncio.create_task(call(address, 0.01 if n % 2 else 0.3, counts)) for n in range(CALLERS)
    ]
    await asyncio.sleep(0.5)
    asked = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    unready = await until_not_ready(address)
    code = await patiently(server.ended)
    ended = time.monotonic()
    await asyncio.gather(*callers)
    return unready - asked, ended - asked, code


def doubler(root: Path) -> object:
    """Put a small model into a repository."""
    return write_doubler(root / "doubler.onnx")


def under_load(report: Report, repeats: int) -> None:
    """Busy and idle callers, again and again."""
    counts, unready, ends, codes = Counts(), [], [], set()
    for _ in range(repeats):
        with serving(doubler, "--workers", 2, "--drain-delay", DELAY) as server:
            not_ready, ended, code = asyncio.run(drained(server, counts))
        unready.append(not_ready)
        ends.append(ended)
        codes.add(code)
    callers = CALLERS * repeats
    report.figure("callers", callers)
    report.figure("requests sent", counts.sent)
    report.figure("lost", counts.lost, good=counts.lost == 0, goal="0")
    report.figure("other answers than 200", counts.odd, good=counts.odd == 0, goal="0")
    report.figure("idle connections ended without a word", counts.unannounced)
    slowest = max(unready)
    report.figure("not ready after", f"{slowest * 1e3:.0f} ms", good=slowest <= 0.1, goal="100 ms")
    latest = max(ends)
    report.figure(
        "ended after", f"{latest:.2f} s", good=latest <= DELAY + 1, goal=f"{DELAY + 1:.0f} s"
    )
    report.figure("exit codes", sorted(codes), good=codes == {0}, goal="[0]")


async def _answered_late(server: RealServer) -> tuple[int, bool, float]:
    """Send a body over three seconds while the server ends; return status, last, seconds."""
    content = request(INFER, infer_body())
    reader, writer = await asyncio.open_connection(*address_of(server))
    half = len(content) - 10
    writer.write(content[:half])
    await asyncio.sleep(0.2)
    asked = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    for byte in content[half:]:
        await asyncio.sleep(0.3)
        writer.write(bytes([byte]))
    answer = await read_answer(reader)
    writer.close()
    await patiently(server.ended)
    return answer.status, answer.last, time.monotonic() - asked


def slow_request(report: Report) -> None:
    """A request of three seconds is under way when the end is asked for."""
    with serving(doubler, "--workers", 1, "--drain-delay", DELAY) as server:
        status, last, seconds = asyncio.run(_answered_late(server))
    good = status == 200 and last
    report.figure("a request of 3 s", f"{status}, close {last}", good=good, goal="200, close True")
    report.figure("with it ended after", f"{seconds:.2f} s", good=seconds <= 4 + DELAY, goal="5 s")


def asked_twice(report: Report) -> None:
    """A second signal while the first is being obeyed."""
    with serving(doubler, "--workers", 2, "--drain-delay", 30) as server:
        server.process.send_signal(signal.SIGTERM)
        server.logged("asked to end by SIGTERM")
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        code = server.ended()
        seconds = time.monotonic() - begun
    report.figure("second signal", f"{seconds * 1e3:.0f} ms, code {code}", good=seconds <= 0.5,
                  goal="at once")  # fmt: skip


def while_loading(report: Report) -> None:
    """The end is asked for while a model is still being proven."""
    with TemporaryDirectory() as folder:
        write_endless(Path(folder, "slow.onnx"))
        with real_server(folder, "--workers", 1) as server:
            server.logged("model slow version 1: VERIFYING")
            begun = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            code = server.ended()
            seconds = time.monotonic() - begun
    report.figure("while loading", f"{seconds:.2f} s, code {code}", good=code == 0, goal="code 0")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    report = Report("F10")
    under_load(report, parser.parse_args().repeats)
    slow_request(report)
    asked_twice(report)
    while_loading(report)
    report.close()


if __name__ == "__main__":
    main()
