"""Sends what no client should send to a server, and counts what comes of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from onnx import TensorProto

from tests.faults.corpus import Case
from tests.faults.rig import Answer, Lost, read_answer
from tests.support.models import write_doubler

# A reaction that takes longer counts as none; who sends half a request waits for the server's own
# limits.
PATIENCE = 20.0


@dataclass(slots=True)
class Outcome:
    """What came of many requests; ``faults`` names those that went wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def note(self, name: str, answers: list[Answer], seconds: float, *, slow: float = 2.0) -> None:
        """Count what came, and how long it took."""
        self.seconds.append(seconds)
        for answer in answers:
            self.statuses[answer.status] += 1
            if answer.status >= 500 and answer.status != 501:
                self.faults.append(f"{name}: {answer.status} {answer.body[:200]!r}")
        if seconds > slow:
            self.faults.append(f"{name}: took {seconds:.1f} s")


def repository(root: Path) -> object:
    """Put the models of the corpus into a repository."""
    write_doubler(root / "doubler.onnx")
    return write_doubler(root / "counts.onnx", TensorProto.INT64, ["n"])


async def send_case(address: tuple[str, int], case: Case, outcome: Outcome) -> None:
    """Send one case on a connection of its own, and hear all that the server has to say."""
    reader, writer = await asyncio.open_connection(*address)
    begun, answers = time.monotonic(), []
    try:
        writer.write(case.content)
        if not case.unfinished and writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            while True:
                answers.append(await read_answer(reader))
    except (Lost, ConnectionError):
        # The end of the connection is a reaction, too, with or without an answer before.
        pass
    except TimeoutError:
        outcome.faults.append(f"{case.name}: no reaction in {PATIENCE:.0f} s")
    finally:
        writer.close()
    seconds = time.monotonic() - begun
    outcome.note(case.name, answers, seconds, slow=PATIENCE if case.unfinished else 2.0)


async def send_bodies(address: tuple[str, int], contents: Iterable[bytes]) -> Outcome:
    """Send requests one after the other on several connections, each kept as long as may be."""
    outcome, pending = Outcome(), iter(enumerate(contents))

    async def work() -> None:
        streams = await asyncio.open_connection(*address)
        for number, content in pending:
            begun = time.monotonic()
            streams[1].write(content)
            try:
                async with asyncio.timeout(PATIENCE):
                    answer = await read_answer(streams[0])
            except (Lost, TimeoutError) as error:
                outcome.faults.append(f"body {number}: {error!r} to {content[:300]!r}")
                last = True
            else:
                outcome.note(f"body {number}", [answer], time.monotonic() - begun)
                last = answer.last
            if last:
                streams[1].close()
                streams = await asyncio.open_connection(*address)
        streams[1].close()

    await asyncio.gather(*(work() for _ in range(4)))
    return outcome
