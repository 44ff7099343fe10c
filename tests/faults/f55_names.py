"""F55: a hundred thousand names of models that do not exist, and paths that are none."""

from __future__ import annotations

import argparse
import asyncio
from random import Random

from tests.faults.hostile import repository, send_bodies
from tests.faults.rig import Report, address_of, read_answer, request, resident, serving
from tests.support.servers import RealServer

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-_."


def _requests(count: int) -> list[bytes]:
    random = Random(55)
    found = []
    for _ in range(count):
        name = "".join(random.choices(_LETTERS, k=random.randrange(1, 40)))
        path = random.choice((
            f"/v2/models/{name}/infer", f"/v2/models/m{name}/versions/{random.randrange(99)}/infer",
            f"/v1/models/{name}:predict", f"/{name}", f"/v2/models/{name}", f"/v2/{name}/{name}",
        ))  # fmt: skip
        found.append(request(path, b"{}"))
    return found


async def _series(address: tuple[str, int]) -> int:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request("/metrics"))
    page = (await read_answer(reader)).body.decode()
    writer.close()
    return sum(bool(line) and not line.startswith("#") for line in page.splitlines())


async def measure(server: RealServer, report: Report, count: int) -> None:
    """Print the figures."""
    address = address_of(server)
    before, memory = await _series(address), resident(server.process.pid)
    outcome = await send_bodies(address, _requests(count))
    after, grown = await _series(address), resident(server.process.pid) - memory
    report.figure("requests", f"{count}, {dict(outcome.statuses)}")
    report.figure("went wrong", len(outcome.faults), good=not outcome.faults, goal="0")
    new = after - before
    report.figure("new series in /metrics", new, good=new <= 50, goal="50")
    report.figure("resident memory", f"{grown:+.0f} MB", good=grown <= 32, goal="+32 MB")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    report = Report("F55")
    with serving(repository, "--workers", 1) as server:
        asyncio.run(measure(server, report, parser.parse_args().requests))
    report.close()


if __name__ == "__main__":
    main()
