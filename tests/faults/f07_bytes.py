"""F07: a hundred bodies of 16 MiB at once, and bodies above the limit."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.faults.hostile import repository
from tests.faults.rig import Answer, Lost, Peak, Report, address_of, read_answer, serving
from tests.support.servers import RealServer

CALLERS = 100
BODY = 16 << 20
INFER = "/v2/models/doubler/infer"
PIECE = 1 << 18


async def _send(address: tuple[str, int], size: int) -> Answer | None:
    """Send a body of so many blanks, as far as the server takes it."""
    reader, writer = await asyncio.open_connection(*address)
    reaction = asyncio.create_task(read_answer(reader))
    try:
        head = f"POST {INFER} HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"
        writer.write(head.encode())
        for _ in range(0, size, PIECE):
            if reaction.done():
                break
            writer.write(b" " * PIECE)
            await writer.drain()
        return await reaction
    except (ConnectionError, Lost):
        return None
    finally:
        reaction.cancel()
        await asyncio.gather(reaction, return_exceptions=True)
        writer.close()


async def _refused(address: tuple[str, int], content: bytes) -> int:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(content)
    answer = await read_answer(reader)
    writer.close()
    return answer.status


async def measure(server: RealServer, report: Report) -> None:
    """Print the figures."""
    address = address_of(server)
    head = f"POST {INFER} HTTP/1.1\r\nhost: a\r\n"
    announced_status = await _refused(address, f"{head}content-length: {BODY + 1}\r\n\r\n".encode())
    report.figure("announced above the limit, no byte of it sent", announced_status,
                  good=announced_status == 413, goal="413")  # fmt: skip
    piece = b"%x\r\n%b\r\n" % (BODY + 1, b" " * (BODY + 1))
    chunked = await _refused(
        address, f"{head}transfer-encoding: chunked\r\n\r\n".encode() + piece + b"0\r\n\r\n"
    )
    report.figure("above the limit in chunks", chunked, good=chunked == 413, goal="413")
    memory = Peak(server.process.pid)
    watching = asyncio.create_task(memory.watch())
    answers = await asyncio.gather(*(_send(address, BODY) for _ in range(CALLERS)))
    watching.cancel()
    statuses = Counter(answer.status if answer else 0 for answer in answers)
    report.figure("answers (0: the connection ended)", dict(statuses))
    malformed = sum(a is not None and a.status == 503 and not a.well_formed_refusal
                    for a in answers)  # fmt: skip
    report.figure("malformed refusals", malformed, good=malformed == 0, goal="0")
    report.figure("resident memory", f"+{memory.growth:.0f} MB", good=memory.growth <= 256 + 64,
                  goal="+320 MB")  # fmt: skip


def main() -> None:
    """Print the figures."""
    report = Report("F07")
    with serving(repository, "--workers", 1, "--max-body-bytes", BODY) as server:
        asyncio.run(measure(server, report))
    report.close()


if __name__ == "__main__":
    main()
