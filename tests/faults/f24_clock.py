"""F24: the machine's clock jumps while the server runs; deadlines and restarts do not notice.

Needs a C compiler for twenty lines that stand before the C library's clock.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import struct
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from tests.faults.harness import Caller, pace, report, served, until
from tests.faults.texts import MODEL, ask, digest, make_bundle
from tests.support.servers import RealServer

JUMPS = {"an hour on": 3600, "a day back": -86_400, "ten years on": 315_360_000}
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static long *offset;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    if (file >= 0) offset = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && clock == CLOCK_REALTIME && offset) now->tv_sec += *offset;
    return result;
}
"""


async def run(server: RealServer, repository: Path, offset: Path, seconds: float) -> int:
    """Jump while callers ask; afterwards a new version is still found."""
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
        await asyncio.sleep(1)
        asking = asyncio.create_task(pace(server.address, ask, callers=4, rate=10, until=over))
        for jump in JUMPS.values():
            offset.write_bytes(struct.pack("l", jump))
            await asyncio.sleep(seconds)
        second.path.rename(repository / MODEL / "2")
        follows = await until(serves_second, 30)
        over.set()
        load = await asking
    messages = server.so_far()
    years = sorted({str(line["time"])[:4] for line in messages})
    errors = [line["message"] for line in messages if line["level"] == "error"]
    caller.close()
    figures = {
        "jumps": list(JUMPS),
        "years_in_the_log": years,
        "requests": len(load.seconds),
        "failed": len(load.failures),
        "first": load.failures[:3],
        "error_lines": len(errors),
        "follows_seconds": round(follows, 2),
    }
    goals = {
        "jumped": len(years) > 1,
        "failed": not load.failures,
        "quiet": not errors,
        "follows": follows < 5,
    }
    return report("F24", figures, goals)


def main() -> None:
    """Do it and exit 1 if a goal is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=5)
    given = options.parse_args()
    if shutil.which("cc") is None:
        raise SystemExit(report("F24", {"skipped": "no C compiler"}, {}))
    with TemporaryDirectory() as folder:
        offset, shim = Path(folder) / "offset", Path(folder) / "clock.so"
        offset.write_bytes(struct.pack("l", 0))
        (Path(folder) / "clock.c").write_text(SHIM)
        command = ["cc", "-shared", "-fPIC", "-o", str(shim), f"{folder}/clock.c", "-ldl"]
        subprocess.run(command, check=True)
        variables = {"LD_PRELOAD": str(shim), "CLOCK_OFFSET": str(offset)}
        with patch.dict(os.environ, variables), served("--workers", 2) as (server, repository):
            code = asyncio.run(run(server, repository, offset, given.seconds))
    raise SystemExit(code)


if __name__ == "__main__":
    main()
