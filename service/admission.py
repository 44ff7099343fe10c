"""A proof in a process of its own, which may crash, hang or eat memory without harm to others.

Nothing here needs more than the standard library, since the supervisor does it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from service.children import command_of, environment, exit_words, signals_held
from service.cpu import usable_cores, usable_memory
from service.logs import printable
from service.refusals import Refusal

Json = dict[str, Any]
_log = logging.getLogger("onnxport.admission")
FAILED: Final = "failed"
# So that proofs take only what those who serve leave.
NICE: Final = 10
_READ_BYTES: Final = 1 << 16
_LEAST_MEMORY: Final = 2 << 30
_SHARE: Final = 0.8
_STARTING: Final = "its process started"
_BROKEN: Final = "internal"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one proof may cost: seconds by the clock, and bytes beside those of its files.

    ``bytes`` is 0 for no limit, as a GPU's driver needs: it maps more than there is.  ``nice`` is
    added to the niceness of the parent.
    """

    seconds: float = 30.0
    bytes: int = 0
    files: int = 256
    nice: int = NICE

    def as_json(self) -> Json:
        """Return plain values."""
        return asdict(self)


def memory_for(asked: int, *, cuda: bool) -> int:
    """Return the bytes that a proof may take: what was asked for, or a core's part of the memory.

    As many proofs as cores may run at once, so together they leave a fifth to those who serve.
    """
    if cuda:
        return 0
    return asked or max(_LEAST_MEMORY, int(_SHARE * usable_memory() / usable_cores()))


@dataclass(frozen=True, slots=True)
class End:
    """How a child has ended that said nothing more: ``late`` if its time was up.

    ``step`` is what it had said that it was doing, ``said`` the end of what it wrote.
    """

    code: int
    late: bool
    step: str = _STARTING
    said: str = ""


def refusal_of(end: End, limits: Limits) -> tuple[str, str]:
    """Return the code and the text for a proof that its process did not survive."""
    if end.late or end.code == -signal.SIGXCPU:
        return (
            Refusal.LOAD_TIMEOUT,
            f"not proved within {limits.seconds:g} s (admission_timeout); stopped while {end.step}",
        )
    if end.code == -signal.SIGKILL or (end.code < 0 and "bad_alloc" in end.said):
        return (
            Refusal.LOAD_MEMORY,
            f"it asked for more memory than there is (admission_memory) while {end.step}",
        )
    if end.code < 0:
        return (
            Refusal.LOAD_CRASHED,
            f"it ended the process that tried it {exit_words(end.code)} while {end.step}",
        )
    return _BROKEN, f"internal error: its process ended {exit_words(end.code)} while {end.step}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a proof has shown: ``code`` and ``reason`` are "" for a version that may serve.

    Then ``report`` is what a process needs to open it, beside the files that ``descriptor`` holds.
    """

    code: str = ""
    reason: str = ""
    report: Json = field(default_factory=dict)
    descriptor: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def admitted(self) -> bool:
        """Whether the version may serve."""
        return self.descriptor is not None


class Prover:
    """One child that proves one version, started ahead of its order if need be."""

    def __init__(self) -> None:
        """Start the process, which waits for its order."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket = ours
        self._said = os.memfd_create("onnxport-admission")
        with its, signals_held():
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command_of("service.admit", its.fileno()),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=(its.fileno(),),
            )
        ours.setblocking(False)  # noqa: FBT003 - the library's only spelling
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._step = _STARTING
        self._reaping: asyncio.Future[int] | None = None

    async def prove(self, order: Json, limits: Limits) -> Outcome:
        """Have a version proved, whatever that does to the child, which is killed afterwards."""
        try:
            async with asyncio.timeout(limits.seconds):
                answer = await self._answer({**order, "limits": limits.as_json()})
            late = False
        except TimeoutError:
            answer, late = None, True
        finally:
            self._process.kill()
            self._reaping = asyncio.ensure_future(_reaped(self._process))
            said = self._close()
        # Who was too late may hold gigabytes, and needs a while to give them back.
        ended = -signal.SIGKILL if late else await self._reaping
        if answer is not None:
            return self._outcome(answer)
        self._drop()
        code, reason = refusal_of(End(ended, late, self._step, said), limits)
        if code == _BROKEN:
            _log.error("the process of an admission failed: %s", printable(said))
        return Outcome(code, reason)

    def kill(self) -> None:
        """End the child; a proof that is under way ends with it."""
        self._process.kill()

    async def discard(self) -> None:
        """End a child that never got an order."""
        self._process.kill()
        await _reaped(self._process)
        self._close()

    async def _answer(self, order: Json) -> Json | None:
        """Give the order and return the last thing that the child says, None if it dies first."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._socket, json.dumps(order).encode() + b"\n")
        except ConnectionError:
            return None
        while True:
            await self._readable()
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, _READ_BYTES, 1)
            except BlockingIOError:
                continue
            except ConnectionError:
                return None
            self._descriptors += descriptors
            if not data:
                return None
            self._buffer += data
            while (end := self._buffer.find(b"\n")) >= 0:
                message = json.loads(self._buffer[:end])
                del self._buffer[: end + 1]
                if "step" not in message:
                    return dict(message)
                self._step = str(message["step"])

    async def _readable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._socket)

    def _outcome(self, answer: Json) -> Outcome:
        if answer.get("code") or not self._descriptors:
            self._drop()
            code = str(answer.get("code") or _BROKEN)
            return Outcome(code, str(answer.get("reason", "")), seconds=answer.get("seconds", {}))
        descriptor = self._descriptors.pop(0)
        self._drop()
        return Outcome("", "", answer["report"], descriptor, answer.get("seconds", {}))

    def _drop(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _close(self) -> str:
        """Give back what the child needed, and return the end of what it has written."""
        self._socket.close()
        size = os.fstat(self._said).st_size
        said = os.pread(self._said, 4096, max(0, size - 4096))
        os.close(self._said)
        return said.decode(errors="replace").strip()


async def _reaped(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process that has been killed or has ended."""
    return await asyncio.to_thread(process.wait)
