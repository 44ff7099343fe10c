"""F01: more is asked than can be answered, by callers who do not wait for answers.

The server has one core, the callers the other.  A model whose own cost sets the capacity is asked
at 2 and 10 times of it; what counts is what is answered in time, and what the others are told.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.rig import (
    Answer,
    Lost,
    Peak,
    Report,
    address_of,
    infer_body,
    quantile,
    read_answer,
    request,
    serving,
)
from tests.support.graphs import write_loop

INFER = "/v2/models/slow/infer"
DEADLINE = 1.0
BATCH = 8
CONNECTIONS = 3000


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Seen:
    """What became of the requests of one load."""

    good: list[float] = field(default_factory=list)
    late: int = 0
    refusals: list[float] = field(default_factory=list)
    malformed: int = 0
    other: list[int] = field(default_factory=list)
    lost: int = 0
    unsent: int = 0

    def note(self, answer: Answer, seconds: float) -> None:
        """Count an answer."""
        if answer.status == 200:
            self.good.append(seconds)
        elif answer.status == 504:
            self.late += 1
        elif answer.status in (429, 503):
            self.refusals.append(seconds)
            self.malformed += not answer.well_formed_refusal
        else:
            self.other.append(answer.status)


class Crowd:
    """Connections on which requests are sent by a clock, whatever becomes of those before."""

    def __init__(self, address: tuple[str, int], content: bytes) -> None:
        """Keep where and what to ask."""
        self._address = address
        self._content = content
        self._idle: list[Connection] = []

    def close(self) -> None:
        """Hang up."""
        for _, writer in self._idle:
            writer.close()

    async def send(self, rate: float, seconds: float) -> Seen:
        """Send ``rate`` requests a second; a request without a free connection is not sent."""
        seen = Seen()
        tasks: set[asyncio.Task[None]] = set()
        begun, sent = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds:
            due = int(passed * rate)
            for _ in range(due - sent):
                if len(tasks) >= CONNECTIONS:
                    seen.unsent += 1
                    continue
                task = asyncio.create_task(self._ask(seen))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            sent = due
            await asyncio.sleep(0.002)
        if tasks:
            await asyncio.wait(tasks, timeout=DEADLINE * 5)
        seen.lost += len(tasks)
        return seen

    async def _connection(self) -> Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            # The server ends connections that nobody uses.
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(*self._address)

    async def _ask(self, seen: Seen) -> None:
        reader, writer = await self._connection()
        begun = time.monotonic()
        writer.write(self._content)
        try:
            answer = await read_answer(reader)
        except Lost:
            seen.lost += 1
            writer.close()
            return
        seen.note(answer, time.monotonic() - begun)
        if answer.last:
            writer.close()
        else:
            self._idle.append((reader, writer))

    async def saturate(self, seconds: float) -> float:
        """Return the answers a second when so many ask that every run is full, and no more."""
        until = time.monotonic() + seconds
        seen = Seen()

        async def again() -> None:
            while time.monotonic() < until:
                await self._ask(seen)

        await asyncio.gather(*(again() for _ in range(3 * BATCH)))
        return len(seen.good) / seconds


def slow(root: Path) -> object:
    """Put a model of about 10 ms a run into a repository."""
    return write_loop(root / "slow.onnx", 2000)


async def measure(address: tuple[str, int], pid: int, seconds: float, report: Report) -> None:
    """Print the figures of every load."""
    crowd = Crowd(address, request(INFER, infer_body()))
    await crowd.saturate(2)
    peak = await crowd.saturate(4)
    calm = await crowd.send(peak * 0.5, 5)
    usual = quantile(calm.good, 0.99)
    report.figure("p99 at half of it", f"{usual * 1e3:.0f} ms")
    memory = Peak(pid)
    watching = asyncio.create_task(memory.watch())
    for factor, share in ((0.8, None), (2, 0.9), (10, 0.85)):
        # The peak is taken before and after: other work of the machine is not to count.
        before = await crowd.saturate(4)
        seen = await crowd.send(before * factor, seconds)
        await crowd.send(before * 0.5, 2)
        again = await crowd.send(before * 0.5, 2)
        peak = (before + await crowd.saturate(4)) / 2
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
