"""F05: heads and bodies that come a byte at a time, and answers that nobody reads."""

from __future__ import annotations

import argparse
import asyncio
import resource
import socket
import time
from pathlib import Path

from onnx import TensorProto

from tests.faults.rig import Peak, Probe, Report, address_of, request, serving
from tests.support.models import write_doubler, write_identity
from tests.support.servers import RealServer

LIMIT = 15.0
READERS = 20
ANSWER = 8 << 20


def repository(root: Path) -> object:
    """Put a model into a repository that gives back what it gets."""
    write_doubler(root / "doubler.onnx")
    return write_identity(root / "echo.onnx", TensorProto.UINT8, ["n"])


async def _drip(address: tuple[str, int], begin: bytes, more: bytes) -> asyncio.Task[bytes]:
    """Open a connection on which a byte is sent each second; return what hears it to its end."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(begin)
    heard = asyncio.create_task(reader.read())

    async def on() -> None:
        while not heard.done():
            await asyncio.sleep(1)
            writer.write(more)
        writer.close()

    task = asyncio.create_task(on())
    _KEPT.add(task)
    task.add_done_callback(_KEPT.discard)
    return heard


_KEPT: set[asyncio.Task[None]] = set()


async def _drips(
    address: tuple[str, int], count: int, begin: bytes, more: bytes
) -> list[asyncio.Task[bytes]]:
    heard: list[asyncio.Task[bytes]] = []
    for start in range(0, count, 200):
        some = (_drip(address, begin, more) for _ in range(min(200, count - start)))
        heard += await asyncio.gather(*some)
    return heard


async def _unread(address: tuple[str, int]) -> socket.socket:
    """Ask for a long answer and do not read it."""
    head = (
        b'{"inputs":[{"name":"x","datatype":"UINT8","shape":[%d],"parameters":'
        b'{"binary_data_size":%d}}],"parameters":{"binary_data_output":true}}' % (ANSWER, ANSWER)
    )
    said = f"Inference-Header-Content-Length: {len(head)}\r\n"
    caller = socket.socket()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.setblocking(False)  # noqa: FBT003 - the library's only spelling
    loop = asyncio.get_running_loop()
    await loop.sock_connect(caller, address)
    content = request("/v2/models/echo/infer", head + bytes(ANSWER), head=said)
    await loop.sock_sendall(caller, content)
    return caller


def _was_kept(caller: socket.socket) -> bool:
    """Whether a caller who begins to read now gets a whole answer: the server has waited for it."""
    caller.settimeout(5)
    size = 0
    try:
        while part := caller.recv(1 << 20):
            size += len(part)
    except OSError:
        # It was cut off, or holds on with nothing more to say.
        return size >= ANSWER
    return size >= ANSWER


async def measure(server: RealServer, report: Report, count: int) -> None:
    """Print the figures."""
    address = address_of(server)
    probe, memory = Probe(address), Peak(server.process.pid)
    beside = [asyncio.create_task(probe.run()), asyncio.create_task(memory.watch())]
    begun = time.monotonic()
    body = request("/v2/models/doubler/infer", b"{" * 9999)[:200]
    heads = await _drips(address, count, b"GET /v2 HTTP/1.1\r\nhost: a\r\nx: ", b"y")
    bodies = await _drips(address, count, body, b" ")
    unread = [await _unread(address) for _ in range(READERS)]
    opened = time.monotonic() - begun
    await asyncio.sleep(LIMIT)
    for task in beside:
        task.cancel()
    report.figure("opened", f"2 x {count} in {opened:.0f} s, {READERS} that do not read")
    for name, heard in (("slow heads", heads), ("slow bodies", bodies)):
        still = sum(not one.done() for one in heard)
        report.figure(f"{name} open after {LIMIT:.0f} s", still, good=still == 0, goal="0")
    still = sum([await asyncio.to_thread(_was_kept, caller) for caller in unread])
    report.figure(f"slow readers waited for {LIMIT:.0f} s", still, good=still == 0, goal="0")
    p99 = probe.p99
    report.figure("p99 of health meanwhile", f"{p99:.0f} ms", good=p99 <= 50, goal="50 ms")
    report.figure("resident memory", f"+{memory.growth:.0f} MB")
    for caller in unread:
        caller.close()
    await asyncio.gather(*heads, *bodies, *_KEPT, return_exceptions=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=2000)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report = Report("F05")
    with serving(repository, "--workers", 2) as server:
        asyncio.run(measure(server, report, parser.parse_args().connections))
    report.close()


if __name__ == "__main__":
    main()
