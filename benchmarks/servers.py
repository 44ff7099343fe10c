"""Servers under measurement: how each is started, known to be ready, and ended."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.dialects import Dialect, Encoding, Request
from benchmarks.errors import ServerUnusable

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
START_SECONDS = 120
_END_SECONDS = 15
_ANSWER_SECONDS = 60
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Site:
    """What a server is given: models by name, the same as a repository, a folder, a port, cores."""

    models: Mapping[str, Path]
    repository: Path
    work: Path
    port: int
    cores: int


@dataclass(frozen=True, slots=True)
class Launch:
    """The command that starts a server, what is added to its environment, and where it runs."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT


@dataclass(frozen=True, slots=True)
class Kind:
    """A server that can be measured.

    ``settings`` says in a line how it is set up, ``launch`` prepares a site and may raise
    ServerUnusable, ``cores`` holds it to some cores (none: all).
    """

    name: str
    version: str
    settings: str
    dialects: Mapping[Encoding, Dialect]
    launch: Callable[[Site], Launch]
    health: str
    cores: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs; ``pid`` leads a session of its own."""

    kind: Kind
    pid: int
    port: int


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(kind: Kind, site: Site, first: Sequence[Request]) -> Iterator[Server]:
    """Start a server, wait until it answers the ``first`` requests, and end it afterwards.

    Raises ServerUnusable with the last lines of its log if it ends or stays silent.
    """
    launch = kind.launch(site)
    log = site.work / "log.txt"
    command = list(launch.command)
    if kind.cores:
        command = ["taskset", "-c", ",".join(map(str, kind.cores)), *command]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=launch.folder,
            env=os.environ | launch.environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, site.port, first, log)
        yield Server(kind, process.pid, site.port)
    finally:
        _end(process)


def ask(port: int, request: Request) -> tuple[int, dict[str, str], bytes]:
    """Send one request on a connection of its own; return status, headers and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("POST", request.path, request.body, dict(request.headers))
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()


def _wait(process: subprocess.Popen[bytes], port: int, first: Sequence[Request], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    waiting, last = list(first), "no connection"
    while waiting:
        if process.poll() is not None:
            raise ServerUnusable(f"it ended with {process.returncode}: {_tail(log)}")
        if time.monotonic() > give_up:
            raise ServerUnusable(f"not ready after {START_SECONDS} s ({last}): {_tail(log)}")
        status, last = _try(port, waiting[0])
        if status == 200:
            waiting.pop(0)
        else:
            time.sleep(_LOOK_SECONDS)


def _try(port: int, request: Request) -> tuple[int, str]:
    try:
        status, _, body = ask(port, request)
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)
    return status, f"{status} {body[:200].decode(errors='replace')}"


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return " | ".join(line.strip() for line in lines if line.strip())[-600:] or "its log is empty"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole session that the server leads, politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
            break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
