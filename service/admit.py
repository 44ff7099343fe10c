"""The child that proves one version: ``python -m service.admit DESCRIPTOR``.

It reads its order from a socket, says there what it is doing, and answers with a report and the
sealed files that it has proved, or with why the version is refused.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import resource
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from service.children import die_with_parent, ignore_signals
from service.errors import ServiceError
from service.loader import LoadOptions, prove_version
from service.refusals import Refusal
from service.repository import Found

_OPTIONS: Final = TypeAdapter(LoadOptions)
_READ_BYTES: Final = 1 << 16
_READING: Final = "its files were read and its session opened"
# Read, parsed, made a session of, and laid out again for its operators.
_COPIES: Final = 4
# A stack, and an arena of the C library.
_THREAD_BYTES: Final = 160 << 20
_MOST_ENTRIES: Final = 1000
_STEPS: Final = {"VERIFYING": "it was proved", "WARMING": "it was calibrated"}


def order_of(found: Found, options: LoadOptions) -> dict[str, Any]:
    """Return what a child is told, as plain values."""
    return {
        "name": found.name,
        "version": found.version,
        # Names that are not UTF-8 are carried as Python's escapes.
        "path": os.fspath(found.path),
        "options": _OPTIONS.dump_python(options, mode="json"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prove the version that is asked for, and end."""
    ignore_signals()
    die_with_parent()
    faulthandler.enable()
    (descriptor,) = map(int, arguments or sys.argv[1:])
    channel = socket.socket(fileno=descriptor)
    order = _received(channel)
    if order is None:
        # Nobody needs it any more.
        return
    found = Found(order["name"], order["version"], Path(order["path"]))
    threads = order["options"]["engine"]["intra_op_threads"]
    confine(**order["limits"], threads=threads, weight=_disk_bytes(found.path))
    _answer(channel, found, _OPTIONS.validate_python(order["options"]))


def _answer(channel: socket.socket, found: Found, options: LoadOptions) -> None:
    """Prove the version and say how that went."""
    seconds, doing, since = {}, "reading", time.monotonic()

    def on_step(step: str) -> None:
        nonlocal doing, since
        seconds[doing] = round(time.monotonic() - since, 3)
        doing, since = step.lower(), time.monotonic()
        _say(channel, {"step": _STEPS[step]})

    _say(channel, {"step": _READING})
    try:
        report, sealed = prove_version(found, options, on_step)
    except ServiceError as error:
        _say(channel, {"code": error.code, "reason": str(error)})
        return
    except MemoryError:
        text = "it asked for more memory than there is (admission_memory)"
        _say(channel, {"code": Refusal.LOAD_MEMORY, "reason": text})
        return
    seconds[doing] = round(time.monotonic() - since, 3)
    report.info["admission"] = {"seconds": seconds}
    message = {"report": report.as_json(), "seconds": seconds}
    if sealed.descriptor is not None:
        socket.send_fds(channel, [b" "], [sealed.descriptor])
    _say(channel, message)


def confine(
    *,
    seconds: float,
    bytes: int,  # noqa: A002 - as the limit is called
    files: int,
    nice: int,
    threads: int = 1,
    weight: int = 0,
) -> None:
    """Bound what this process may use from now on; the clock is the parent's to watch.

    A model of ``weight`` bytes is held several times while it is opened, and every thread reserves
    room that it does not use.
    """
    os.nice(nice)
    cpu = math.ceil(seconds * max(1, threads)) + 1
    _limit(resource.RLIMIT_CPU, _cpu_seconds() + cpu)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, files)
    if bytes:
        room = bytes + _COPIES * weight + _THREAD_BYTES * threads
        _limit(resource.RLIMIT_AS, _mapped() + room)
    with suppress(OSError):
        # If the system has no memory left, this process goes first.
        Path("/proc/self/oom_score_adj").write_text("1000")


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (most, most))


def _cpu_seconds() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return math.ceil(used.ru_utime + used.ru_stime)


def _mapped() -> int:
    """Return the bytes of address space that this process has already."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _disk_bytes(path: Path) -> int:
    """Return the bytes of a file, or of the files right in a folder; holes in them do not count."""
    entries = [path] if path.is_file() else sorted(path.glob("*"))[:_MOST_ENTRIES]
    total = 0
    for entry in entries:
        with suppress(OSError):
            total += 512 * entry.stat().st_blocks
    return total


def _received(channel: socket.socket) -> dict[str, Any] | None:
    data = bytearray()
    while not data.endswith(b"\n"):
        part = channel.recv(_READ_BYTES)
        if not part:
            return None
        data += part
    order: dict[str, Any] = json.loads(data)
    return order


def _say(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
