"""The load generator's Python side: build it, run it, read what it measured."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.errors import BenchmarkError, ServerUnusable

SOURCE = Path(__file__).with_name("load.c")
_COMPILERS = ("cc", "gcc", "clang")
_MARKS = ("begin", "end")


@dataclass(frozen=True, slots=True)
class Load:
    """What the generator does; ``rate`` 0 is a closed loop, else requests a second.

    ``warm_up`` and ``seconds`` are seconds; ``cores`` holds the generator to some cores.
    """

    connections: int
    warm_up: float
    seconds: float
    rate: float = 0.0
    seed: int = 1
    cores: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the generator counted in the measured time.

    ``statuses`` counts answers by HTTP status, ``broken`` connections that ended within an answer,
    ``unanswered`` open-loop requests without any answer. ``latencies`` are seconds, sorted.
    """

    seconds: float
    cpu_seconds: float
    offered: int
    statuses: dict[str, int]
    broken: int
    unanswered: int
    latencies: tuple[float, ...]

    @property
    def good(self) -> int:
        """Answers with status 200."""
        return self.statuses.get("200", 0)

    @property
    def errors(self) -> dict[str, int]:
        """All that was no good answer, by kind."""
        counts = {status: n for status, n in self.statuses.items() if status != "200"}
        counts |= {"broken": self.broken, "unanswered": self.unanswered}
        return {kind: n for kind, n in counts.items() if n}


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that ``share`` of the values do not exceed; NaN of none."""
    if not ordered:
        return float("nan")
    rank = -int(-share * len(ordered) // 1)
    return ordered[min(max(rank, 1), len(ordered)) - 1]


def build(cache: Path) -> Path:
    """Compile the generator into ``cache`` unless it is there and newer than its source.

    Raises BenchmarkError without a C compiler, or with its text when it fails.
    """
    program = cache / "load"
    if program.exists() and program.stat().st_mtime > SOURCE.stat().st_mtime:
        return program
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise BenchmarkError(f"the load generator needs a C compiler: none of {_COMPILERS} is here")
    cache.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-o", str(program), str(SOURCE), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{SOURCE.name} cannot be compiled:\n{done.stderr}")
    return program


def write_requests(requests: Sequence[bytes], file: Path) -> Path:
    """Write requests as the generator reads them."""
    file.write_bytes(b"".join(struct.pack("<I", len(each)) + each for each in requests))
    return file


@contextmanager
def started(
    program: Path, port: int, requests: Path, load: Load
) -> Iterator[Callable[[Callable[[], None]], Outcome]]:
    """Run the generator; the value takes a function to call at both marks and returns the outcome.

    It raises ServerUnusable if the server takes no connection.  Ends the generator if the block is
    left early.
    """
    with tempfile.NamedTemporaryFile(suffix=".latencies") as latencies:
        numbers = (load.connections, load.warm_up, load.seconds, load.rate, load.seed)
        command = [
            str(program),
            "run",
            str(port),
            *map(str, numbers),
            str(requests),
            latencies.name,
        ]
        if load.cores:
            command = ["taskset", "-c", ",".join(map(str, load.cores)), *command]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield lambda on_mark: _finish(process, Path(latencies.name), on_mark)
            finally:
                process.kill()


def _finish(
    process: subprocess.Popen[str], latencies: Path, on_mark: Callable[[], None]
) -> Outcome:
    assert process.stdout is not None
    for mark in _MARKS:
        line = process.stdout.readline().strip()
        if line != mark:
            raise ServerUnusable("the load generator ended early: no more connections were taken")
        on_mark()
    counts = json.loads(process.stdout.readline())
    nanoseconds = np.sort(np.fromfile(latencies, np.uint64))
    return Outcome(**counts, latencies=tuple((nanoseconds * 1e-9).tolist()))
