"""The limit: ONNX Runtime in this process, without any server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import onnxruntime as ort

from benchmarks.models import SAMPLES, Batch, Subject, session

SIZES = (1, 8, 32)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """``callers`` threads that each run batches of ``rows`` with ``threads`` threads in a run."""

    callers: int
    threads: int
    rows: int

    @property
    def label(self) -> str:
        """The arrangement in words."""
        return f"{self.callers} x {self.threads} thread(s), batch {self.rows}"


def arrangements(cores: int) -> list[Arrangement]:
    """Return one thread, all cores in a run, and a run on each core, at each batch size."""
    shapes = dict.fromkeys([(1, 1), (1, cores), (cores, 1)])
    return [Arrangement(*shape, rows) for shape in shapes for rows in SIZES]


def rates(subject: Subject, cores: int, seconds: float) -> Iterator[tuple[Arrangement, float]]:
    """Yield the rows/s of each arrangement, measured for ``seconds`` each."""
    batches = {rows: subject.collate([i % SAMPLES for i in range(rows)]) for rows in SIZES}
    sessions = {threads: session(subject.file, threads) for threads in {1, cores}}
    for each in arrangements(cores):
        run = _runner(sessions[each.threads], subject.outputs, batches[each.rows])
        yield each, _rate(run, each, seconds)


def _runner(
    engine: ort.InferenceSession, outputs: tuple[str, ...], batch: Batch
) -> Callable[[], object]:
    return lambda: engine.run(list(outputs) or None, batch)


def _rate(run: Callable[[], object], arrangement: Arrangement, seconds: float) -> float:
    run()
    with ThreadPoolExecutor(arrangement.callers) as pool:
        futures = [pool.submit(_runs, run, seconds) for _ in range(arrangement.callers)]
        return arrangement.rows * sum(future.result() for future in futures)


def _runs(run: Callable[[], object], seconds: float) -> float:
    """Return runs a second of one caller."""
    began = time.perf_counter()
    runs, spent = 0, 0.0
    while spent < seconds:
        run()
        runs += 1
        spent = time.perf_counter() - began
    return runs / spent


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def version() -> str:
    """Return ONNX Runtime's version."""
    return str(ort.__version__)
