"""The generator's own limit: how fast it goes against a server that does nothing."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.dialects import Request
from benchmarks.errors import BenchmarkError
from benchmarks.load import Load, started, write_requests
from benchmarks.servers import ask, free_port

CONNECTIONS = (1, 32)
_BODY_BYTES = 12_288
_WAIT_SECONDS = 5
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def ceiling(program: Path, work: Path, seconds: float) -> dict[int, float]:
    """Return requests/s by connections, with bodies of the size of a CNN's row."""
    request = Request("/", bytes(_BODY_BYTES), {"Content-Type": "application/octet-stream"})
    with _responder(program, work, request) as port:
        file = write_requests([request.wire(port)], work / "ceiling.requests")
        return {each: _rate(program, port, file, each, seconds) for each in CONNECTIONS}


def _rate(program: Path, port: int, requests: Path, connections: int, seconds: float) -> float:
    with started(program, port, requests, Load(connections, 0.2, seconds)) as finish:
        outcome = finish(lambda: None)
    return outcome.good / outcome.seconds


@contextmanager
def _responder(program: Path, work: Path, request: Request) -> Iterator[int]:
    port = free_port()
    answer = work / "ceiling.answer"
    answer.write_bytes(_ANSWER)
    with subprocess.Popen([str(program), "respond", str(port), str(answer)]) as process:
        try:
            _wait(port, request)
            yield port
        finally:
            process.kill()


def _wait(port: int, request: Request) -> None:
    give_up = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < give_up:
        try:
            ask(port, request)
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise BenchmarkError(f"the bare responder does not answer on port {port}")
