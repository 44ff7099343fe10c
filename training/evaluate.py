"""Evaluation of an exported file by ONNX Runtime, through the same pipeline that serves it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from service.contract import Contract
from service.optimizers import DEADLY
from service.pipeline import Pipeline, Row, make_pipeline
from training.statistics import Floats, Labels, Scores, calibration_error, score

BATCH_ROWS = 64
_TIMED_ROWS = 50


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a served model does on a split: its answers, their scores, and how long a row takes."""

    probabilities: Floats
    scores: Scores
    calibration_error: float
    row_ms: float
    model_bytes: int

    @property
    def answered(self) -> Labels:
        """The class index of each answer."""
        answered: Labels = self.probabilities.argmax(axis=1)
        return answered

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``, apart from what only training knows."""
        scores = self.scores
        return {
            "split": "test",
            "rows": scores.rows,
            "measured_on": "model.onnx through the serving pipeline, ONNX Runtime "
            f"{ort.__version__}, CPU",
            "intervals": "95 %: Wilson for proportions, bootstrap over rows for F1 and means",
            "accuracy": scores.accuracy.as_json(),
            "macro": {
                "precision": scores.precision.as_json(),
                "recall": scores.recall.as_json(),
                "f1": scores.f1.as_json(),
            },
            "classes": {
                one.label: {
                    "precision": one.precision.as_json(),
                    "recall": one.recall.as_json(),
                    "f1": one.f1.as_json(),
                    "support": one.support,
                }
                for one in scores.classes
            },
            "confusion": scores.confusion.tolist(),
            "calibration_error": round(self.calibration_error, 6),
            "latency": {"rows": 1, "threads": 1, "median_ms": round(self.row_ms, 4)},
            "model": {"bytes": self.model_bytes},
        }


def evaluate_model(
    file: Path, contract: Contract, raws: Iterable[bytes], media_type: str, *, truth: Labels
) -> Evaluation:
    """Send raw inputs through the pipeline and the exported file, as the server would.

    ``truth`` holds the class index of each raw input.
    """
    session = open_session(file)
    pipeline = make_pipeline(contract)
    rows = [pipeline.decode(raw, media_type) for raw in raws]
    probabilities = answer(session, contract, pipeline, rows)
    answered = probabilities.argmax(axis=1)
    return Evaluation(
        probabilities=probabilities,
        scores=score(truth, answered, tuple(contract.labels or ())),
        calibration_error=calibration_error(probabilities, truth),
        row_ms=_row_ms(session, contract, pipeline, rows[:_TIMED_ROWS]),
        model_bytes=file.stat().st_size,
    )


def open_session(file: Path) -> ort.InferenceSession:
    """Open the file on the CPU with one thread, as one worker of the server has it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(
        str(file), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(DEADLY)
    )


def answer(
    session: ort.InferenceSession, contract: Contract, pipeline: Pipeline, rows: list[Row]
) -> Floats:
    """Return the probabilities [rows, classes], as served.

    In batches of 64 with their padding, or each row alone where rows are not independent.
    """
    parts = [
        np.asarray(session.run([contract.answer.name], pipeline.collate(batch))[0])
        for batch in _batches(rows, BATCH_ROWS if contract.batchable else 1)
    ]
    return np.concatenate(parts).astype(np.float64)


def _batches(rows: list[Row], size: int) -> Iterator[list[Row]]:
    waiting = iter(rows)
    while batch := list(itertools.islice(waiting, size)):
        yield batch


def _row_ms(
    session: ort.InferenceSession, contract: Contract, pipeline: Pipeline, rows: list[Row]
) -> float:
    seconds = []
    for row in rows:
        inputs = pipeline.collate([row])
        begun = time.perf_counter()
        session.run([contract.answer.name], inputs)
        seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds)
