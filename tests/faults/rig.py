"""What the fault scripts share: a server of its own, raw callers, figures and their goals."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import orjson

from tests.support.servers import PATIENCE, RealServer, real_server

T = TypeVar("T")


@dataclass(slots=True)
class Report:
    """The figures of one fault; a figure without a goal is only observed."""

    fault: str
    failed: list[str] = field(default_factory=list)

    def figure(self, name: str, value: object, *, good: bool | None = None, goal: str = "") -> None:
        """Print a figure; ``good`` says whether it is at its goal."""
        verdict = "observed" if good is None else ("ok" if good else "MISSED")
        wanted = f"  (goal {goal})" if goal else ""
        sys.stdout.write(f"{self.fault}  {name}: {value}{wanted}  {verdict}\n")
        sys.stdout.flush()
        if good is False:
            self.failed.append(name)

    def close(self) -> None:
        """End the process with 1 if a goal was missed."""
        if self.failed:
            sys.exit(f"{self.fault}: missed {', '.join(self.failed)}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as it came; ``body`` is whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def last(self) -> bool:
        """Whether the server has said that it ends the connection."""
        return self.headers.get("connection", "").lower() == "close"

    @property
    def well_formed_refusal(self) -> bool:
        """Whether it is a 429 or 503 in JSON with a wait of 1 to 60 whole seconds."""
        wait = self.headers.get("retry-after", "")
        return (
            self.status in (429, 503)
            and set(orjson.loads(self.body)) == {"error"}
            and wait.isdigit()
            and 1 <= int(wait) <= 60
        )


class Lost(Exception):
    """The connection ended before the answer was whole; ``heard`` is what had come of it."""

    def __init__(self, heard: bytes) -> None:
        """Keep what had come."""
        super().__init__(f"{len(heard)} bytes had come")
        self.heard = heard


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Return the next answer, which must announce its length; raises Lost."""
    head = body = b""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 1"):
            head = await reader.readuntil(b"\r\n\r\n")
        status, headers = _parsed(head)
        body = await reader.readexactly(int(headers["content-length"]))
    except asyncio.IncompleteReadError as error:
        raise Lost(head + error.partial) from error
    except ConnectionError as error:
        raise Lost(head) from error
    return Answer(status, headers, body)


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return int(first.split()[1]), headers


def request(path: str, body: object = None, *, head: str = "", method: str | None = None) -> bytes:
    """Return a request as it stands on a connection; a body that is no bytes goes as JSON."""
    content = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    verb = method or ("GET" if body is None else "POST")
    length = f"content-length: {len(content)}\r\n" if content else ""
    return f"{verb} {path} HTTP/1.1\r\nhost: faults\r\n{head}{length}\r\n".encode() + content


def infer_body(rows: int = 1, width: int = 2) -> dict[str, object]:
    """Return an infer call for a model with one input ``x`` [n, width]."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, width], "data": [1.0] * rows * width}
    return {"inputs": [tensor]}


def address_of(server: RealServer) -> tuple[str, int]:
    """Return host and port of a server."""
    host, port = server.address.rpartition("/")[2].rsplit(":", 1)
    return host, int(port)


@contextmanager
def serving(
    write: Callable[[Path], object], *arguments: object, core: int | None = None
) -> Iterator[RealServer]:
    """Run a server over what ``write`` puts into an empty repository, and yield it once ready.

    With ``core`` it has that core for itself, and this process the others.
    """
    cores = os.sched_getaffinity(0)
    with TemporaryDirectory() as folder:
        write(Path(folder))
        try:
            if core is not None:
                os.sched_setaffinity(0, {core})
            with real_server(folder, "--no-access-log", *arguments) as server:
                if core is not None:
                    os.sched_setaffinity(0, (cores - {core}) or cores)
                server.logged("ready")
                yield server
        finally:
            os.sched_setaffinity(0, cores)


def tree_of(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree_of(int(child))
    return found


def resident(pid: int) -> float:
    """Return the resident MB of a process and all below it; what they share counts once each."""
    pages = 0
    for one in tree_of(pid):
        pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Peak:
    """The most resident memory that was seen while it was looked at, ten times a second."""

    def __init__(self, pid: int) -> None:
        """Begin with what is there now."""
        self._pid = pid
        self.before = self.most = resident(pid)

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            self.most = max(self.most, resident(self._pid))
            await asyncio.sleep(0.1)

    @property
    def growth(self) -> float:
        """MB above the beginning."""
        return self.most - self.before


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Probe:
    """Asks a road again and again, on one connection, and keeps how long each answer took."""

    def __init__(self, address: tuple[str, int], path: str = "/v2/health/live") -> None:
        """Keep where to ask."""
        self._address = address
        self._request = request(path)
        self.seconds: list[float] = []
        self.statuses: set[int] = set()

    async def run(self, every: float = 0.1) -> None:
        """Ask until cancelled."""
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            while True:
                begun = time.monotonic()
                writer.write(self._request)
                self.statuses.add((await read_answer(reader)).status)
                self.seconds.append(time.monotonic() - begun)
                await asyncio.sleep(every)
        finally:
            writer.close()

    @property
    def p99(self) -> float:
        """Milliseconds."""
        return quantile(self.seconds, 0.99) * 1e3


async def patiently(work: Callable[[], T]) -> T:
    """Wait beside the loop for something that blocks, not for ever."""
    return await asyncio.wait_for(asyncio.to_thread(work), PATIENCE)
