"""What a row costs in two model files, taken turn by turn so that a busy machine harms both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from service.contract import Contract
from service.pipeline import Row, make_pipeline
from training.evaluate import open_session
from training.gate import Gain, Speed

TIMED_ROWS = 32
_BATCH, _TURNS = 16, 25

Model = tuple[Path, Contract]
Work = Callable[[], object]


def measure_gain(fp32: Model, lower: Model, rows: Sequence[Row]) -> Gain:
    """Return what these rows cost in both files, on one thread of this processor."""
    alone = _least([_work(model, rows, 1) for model in (fp32, lower)])
    together = _least([_work(model, rows, _BATCH) for model in (fp32, lower)])
    speeds = [
        Speed(own / len(rows), shared / len(rows) if contract.batchable else None)
        for own, shared, (_, contract) in zip(alone, together, (fp32, lower), strict=True)
    ]
    return Gain(*speeds)


def _work(model: Model, rows: Sequence[Row], size: int) -> Work:
    file, contract = model
    session, pipeline = open_session(file), make_pipeline(contract)
    names = [contract.answer.name]
    calls = [pipeline.collate(list(rows[i : i + size])) for i in range(0, len(rows), size)]
    return lambda: [session.run(names, call) for call in calls]


def _least(works: Sequence[Work]) -> list[float]:
    """Return the least milliseconds of processor time that each took in several turns."""
    found: list[list[float]] = [[] for _ in works]
    for _ in range(_TURNS):
        for times, work in zip(found, works, strict=True):
            begun = time.thread_time()
            work()
            times.append(1000 * (time.thread_time() - begun))
    return [min(times) for times in found]
