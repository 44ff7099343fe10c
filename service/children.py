"""Python processes of ours: how one is started so that it finds what its parent found."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service import blackbox

_PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Child:
    """A worker process: its control socket, those for connections and for files, its black box."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    connections: socket.socket
    files: socket.socket
    box: int

    def close(self) -> None:
        """Give back what the supervisor held of a process that has ended."""
        self.control.close()
        self.connections.close()
        self.files.close()
        os.close(self.box)


def command_of(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of this package in a new interpreter."""
    # Without -P the folder that a user happens to be in would be searched for modules first.
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return the variables of a child: ours, and where this package lies if it is a checkout."""
    root = str(Path(__file__).resolve().parents[1])
    found = dict(os.environ)
    if Path(root).name not in ("site-packages", "dist-packages"):
        paths = [root, *filter(None, [found.get("PYTHONPATH")])]
        found["PYTHONPATH"] = os.pathsep.join(paths)
    return found


def spawn_worker(quotas: int) -> Child:
    """Start a worker; it hears what it is to do over its control socket.

    ``quotas`` is the memory that all workers share.

    Connections have a socket of their own, on which each message carries one, and so have the
    files of models.
    """
    control, its_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    connections, its_connections = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    files, its_files = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    box = blackbox.make_memory()
    with its_control, its_connections, its_files:
        sockets = (its_control.fileno(), its_connections.fileno(), its_files.fileno())
        inherited = (*sockets, box, quotas)
        with signals_held():
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command_of("service.worker", *inherited),
                env=environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
            )
    control.setblocking(False)  # noqa: FBT003 - the library's only spelling
    connections.setblocking(False)  # noqa: FBT003
    files.setblocking(False)  # noqa: FBT003
    return Child(process, control, connections, files, box)


@contextmanager
def signals_held() -> Iterator[None]:
    """Start a child in which SIGINT and SIGTERM wait until it has said that it ignores them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def die_with_parent() -> None:
    """Ask the kernel to end this process with its parent, however that ends (Linux)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def ignore_signals() -> None:
    """Leave SIGINT and SIGTERM to the parent; called first thing in a child."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def exit_words(code: int) -> str:
    """Say how a process has ended, from the exit code that the library gives."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def inheritable(descriptors: Sequence[int]) -> None:
    """Let descriptors outlive the exec of another program."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)  # noqa: FBT003
