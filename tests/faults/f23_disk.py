"""F23: the repository's folder goes away, or may not be read; what serves goes on."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.harness import Caller, pace, report, served, until
from tests.faults.texts import MODEL, ask, digest, make_bundle
from tests.support.servers import RealServer


async def run(server: RealServer, repository: Path, seconds: float) -> int:
    """Take the folder away, forbid it, and bring it back, while callers ask."""
    (repository / MODEL).mkdir()
    caller, over = Caller(server.address), asyncio.Event()
    with TemporaryDirectory(dir=repository.parent) as folder:
        first, second = (make_bundle(Path(folder)) for _ in range(2))
        first.path.rename(repository / MODEL / "1")

        async def serves_first() -> bool:
            return await digest(caller) == first.manifest.digest

        async def serves_second() -> bool:
            return await digest(caller) == second.manifest.digest

        assert await until(serves_first, 30) < 30
        # The other worker follows at once, and the index says when.
        await asyncio.sleep(1)
        asking = asyncio.create_task(pace(server.address, ask, callers=4, rate=10, until=over))
        repository.rename(repository.with_name("away"))
        await asyncio.sleep(seconds)
        _, page = await caller.ask("GET", "/metrics")
        seen = "onnxport_repository_ok 0.0" in page
        repository.with_name("away").rename(repository)
        await asyncio.sleep(3)
        repository.chmod(0)
        await asyncio.sleep(3 if os.geteuid() else 1)
        repository.chmod(0o755)
        second.path.rename(repository / MODEL / "2")
        follows = await until(serves_second, 30)
        over.set()
        load = await asking
    errors = [str(line["message"]) for line in server.so_far() if line["level"] == "error"]
    figures = {
        "seconds_away": seconds,
        "requests": len(load.seconds),
        "failed": len(load.failures),
        "first": load.failures[:3],
        "error_lines": len(errors),
        "follows_again_seconds": round(follows, 2),
    }
    goals = {
        "failed": not load.failures,
        "metric": seen,
        "told": 1 <= len(errors) <= 2 and all("cannot be read" in error for error in errors),
        "follows again": follows < 5,
    }
    caller.close()
    return report("F23", figures, goals)


def main() -> None:
    """Do it and exit 1 if a goal is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60)
    given = options.parse_args()
    with served("--workers", 2) as (server, repository):
        code = asyncio.run(run(server, repository, given.seconds))
    raise SystemExit(code)


if __name__ == "__main__":
    main()
