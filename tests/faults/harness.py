"""What the scripts of this folder share: callers, what a server costs, and how figures are said."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.proc import family, processes
from tests.support.servers import RealServer, real_server

Goal = Mapping[str, bool]


class Caller:
    """One kept connection that speaks just enough HTTP to cost little."""

    def __init__(self, address: str) -> None:
        """Keep where the server is; the connection is made by the first call."""
        self._host, port = address.removeprefix("http://").split(":")
        self._port = int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and parsed body; raises OSError where the connection is lost."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: faults\r\nContent-Length: {len(content)}\r\n\r\n"
        try:
            writer.write(head.encode() + content)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(answer.split("content-length:", 1)[1].split("\r\n", 1)[0])
            text = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.close()
            raise ConnectionError(str(error)) from error
        if "connection: close" in answer:
            self.close()
        status = int(answer.split(" ", 2)[1])
        if "application/json" not in answer:
            return status, text.decode()
        return status, json.loads(text) if text else None

    async def infer(self, model: str, *rows: float, milliseconds: int = 0) -> tuple[int, Any]:
        """Send rows of one number to a model's input x."""
        tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), 1], "data": list(rows)}
        body: dict[str, object] = {"inputs": [tensor]}
        if milliseconds:
            body["parameters"] = {"timeout": milliseconds * 1000}
        return await self.ask("POST", f"/v2/models/{model}/infer", body)

    async def states(self) -> dict[tuple[str, str], str]:
        """Return the state of every version in the index, and why it failed behind a colon."""
        _, rows = await self.ask("POST", "/v2/repository/index", {})
        return {
            (row["name"], row.get("version", "")): row.get("state", "")
            + (f": {row['reason']}" if "reason" in row else "")
            for row in rows
        }

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass(slots=True)
class Load:
    """Callers that ask at a steady pace, and what came of it."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def p99(self) -> float:
        """The 99th percentile of the seconds, 0 without any."""
        return percentile(self.seconds, 0.99)


Ask = Callable[[Caller], Awaitable[None]]


async def pace(address: str, ask: Ask, *, callers: int, rate: float, until: asyncio.Event) -> Load:
    """Have callers ask ``rate`` times a second each, whatever the answers do, until an event."""
    load = Load()

    async def one(number: int) -> None:
        caller = Caller(address)
        due = time.monotonic() + number / callers / rate
        while not until.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            try:
                await ask(caller)
            except (OSError, AssertionError) as error:
                load.failures.append(repr(error))
            load.seconds.append(time.monotonic() - began)
            # Who is late does not hurry: a queue of callers would measure itself.
            due = max(due + 1 / rate, time.monotonic())
        caller.close()

    await asyncio.gather(*(one(number) for number in range(callers)))
    return load


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of the values do not exceed, 0 without values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What the processes of a server hold together."""

    resident_mb: float
    descriptors: int
    threads: int


def cost(pid: int) -> Cost:
    """Count over a process and its descendants."""
    resident = descriptors = threads = 0
    for process in family(processes(), pid):
        folder = Path("/proc") / str(process.pid)
        with suppress(OSError):
            descriptors += len(list((folder / "fd").iterdir()))
            for line in (folder / "status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    resident += int(line.split()[1])
                elif line.startswith("Threads:"):
                    threads += int(line.split()[1])
    return Cost(round(resident / 1024, 1), descriptors, threads)


@contextmanager
def served(*arguments: object) -> Iterator[tuple[RealServer, Path]]:
    """Start a server over an empty repository; yield it with the repository's folder."""
    with TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        repository.mkdir()
        with real_server(repository, "--no-access-log", *arguments) as server:
            yield server, repository


async def until(
    condition: Callable[[], Awaitable[bool]], seconds: float, every: float = 0.02
) -> float:
    """Wait for a condition and return how long it took, infinity if too long."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if await condition():
            return time.monotonic() - began
        await asyncio.sleep(every)
    return float("inf")


def report(fault: str, figures: Mapping[str, object], goals: Goal) -> int:
    """Print the figures on one line and return the exit code: 0 if all goals are met."""
    missed = [name for name, met in goals.items() if not met]
    line = {"fault": fault, "passed": not missed, **figures}
    if missed:
        line["missed"] = missed
    sys.stdout.write(json.dumps(line) + "\n")
    return 1 if missed else 0
