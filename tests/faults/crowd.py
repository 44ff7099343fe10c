"""Callers who do not wait for answers, as a real crowd does not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from tests.faults.rig import Answer, Lost, read_answer

# More than can wait in a queue, or the callers would be held up by the server after all.
CONNECTIONS = 3000
PATIENCE = 10.0

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
            await asyncio.wait(tasks, timeout=PATIENCE)
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

    async def saturate(self, seconds: float, callers: int) -> float:
        """Return the answers a second when so many ask that every run is full, and no more."""
        until = time.monotonic() + seconds
        seen = Seen()

        async def again() -> None:
            while time.monotonic() < until:
                await self._ask(seen)

        await asyncio.gather(*(again() for _ in range(callers)))
        return len(seen.good) / seconds
