"""How one model's runs are batched: measured at load, remembered, and overruled by its operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from service import engine as engines
from service.batcher import BatchPolicy
from service.calibration import (
    Calibration,
    Limits,
    calibrate,
    never_in_loop,
    sizes_up_to,
    unmeasured,
)
from service.calibration_cache import CalibrationCache
from service.contract import Contract
from service.cpu import cpu_model, usable_cores
from service.engine import EngineOptions, OrtEngine
from service.errors import EngineFailure, InvalidRequest, TooLarge
from service.golden import Golden
from service.pipeline import Pipeline
from service.samples import Samples, golden_samples, random_samples
from service.scheduling import buckets_up_to
from service.serving import BatchingRules, RunMode

# By the clock, where the limit is of processor time and others use the machine.
_PATIENCE = 3.0
# Two regular runs, and the one that is recorded.
_RUNS_TO_RECORD = 3


@dataclass(frozen=True, slots=True)
class TuningOptions:
    """Whether models are calibrated, how far, and where that is kept (None: nowhere)."""

    calibrate: bool = False
    cache: Path | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Subject:
    """What there is to calibrate.

    ``digest`` names the model's content; ``value_dependent`` are the operators whose work the
    values of a request decide, None if the graph was not inspected.
    """

    engine: OrtEngine
    options: EngineOptions
    contract: Contract
    pipeline: Pipeline
    golden: Golden | None
    digest: str
    value_dependent: tuple[str, ...] | None

    @property
    def never(self) -> str:
        """Why the model must not run in the event loop, "" if it may."""
        return never_in_loop(
            self.value_dependent,
            provider=self.engine.provider,
            rows_independent=self.contract.batchable,
            threads_in_a_run=self.options.threads_in_a_run,
        )


@dataclass(frozen=True, slots=True)
class Tuning:
    """What holds for a model's runs, who chose it, and the calibration that it rests on."""

    max_rows: int
    run: RunMode
    tick_rows: int
    tick_length: int | None
    one_at_a_time: bool
    max_rows_by: str
    run_by: str
    why: str
    calibration: Calibration | None = None

    def as_json(self) -> dict[str, object]:
        """Return it for model-info, with the seconds of a run by its rows."""
        shown = asdict(self)
        del shown["calibration"], shown["one_at_a_time"]
        measured = self.calibration
        if measured is None:
            return shown
        return shown | {
            "calibrated": {
                "seconds": {str(rows): round(one, 9) for rows, one in measured.seconds.items()},
                "cap": measured.cap,
                "run": measured.run,
                "from_cache": measured.from_cache,
            }
        }

    def policy(
        self, base: BatchPolicy, *, batchable: bool, max_wait_ms: float | None
    ) -> BatchPolicy:
        """Return the server's policy with what holds for this model."""
        return replace(
            base,
            max_rows=self.max_rows,
            concurrency=1 if self.one_at_a_time else base.concurrency,
            batchable=batchable,
            run=self.run,
            tick_rows=self.tick_rows,
            tick_length=self.tick_length,
            max_wait=base.max_wait if max_wait_ms is None else max_wait_ms / 1e3,
        )


def tuned(
    calibration: Calibration | None,
    rules: BatchingRules,
    *,
    max_rows: int,
    never: str,
    one_at_a_time: bool = False,
) -> Tuning:
    """Decide: what the model's operator says, else what was measured, else the server's limit.

    Not even the operator puts a model into the event loop that must ``never`` run there.
    """
    known = calibration or unmeasured(Limits(max_rows), never or "not calibrated")
    rows, rows_by = known.cap, "calibration" if known.seconds else "max_batch_rows"
    if rules.max_rows is not None:
        rows, rows_by = rules.max_rows, "serving.toml"
    run, run_by, why = known.run, "calibration" if calibration else "default", known.why
    if rules.run == "tick" and never:
        why = f"serving.toml asks for tick, but {never}"
    elif rules.run is not None:
        run, run_by, why = rules.run, "serving.toml", f"serving.toml says so; {known.why}"
    return Tuning(
        max_rows=rows,
        run=run,
        # Who asks for it gets it for one row, whatever that costs.
        tick_rows=max(1, known.tick_rows) if run == "tick" else 0,
        tick_length=known.tick_length,
        one_at_a_time=one_at_a_time,
        max_rows_by=rows_by,
        run_by=run_by,
        why=why,
        calibration=calibration,
    )


def tune(
    subject: Subject,
    rules: BatchingRules,
    options: TuningOptions,
    max_rows: int,
    *,
    alone: bool,
    known: Calibration | None = None,
) -> Tuning:
    """Calibrate a model or remember its calibration, run every batch size once, and decide.

    ``known`` is what another process has just measured.
    """
    never = subject.never
    samples = None
    calibration = None
    if options.calibrate:
        limits = replace(options.limits, max_rows=rules.max_rows or max_rows)
        samples = _samples(subject, limits) if subject.contract.batchable else None
        calibration = known or _calibration(subject, samples, limits, options.cache)
    decided = tuned(calibration, rules, max_rows=max_rows, never=never, one_at_a_time=alone)
    if samples is not None and calibration is not None:
        _warm_up(subject.engine, samples, calibration, decided.max_rows)
    return decided


def _calibration(
    subject: Subject, samples: Samples | None, limits: Limits, folder: Path | None
) -> Calibration:
    if samples is None:
        return unmeasured(limits, subject.never or "no input was found that the model takes")

    def measure() -> Calibration:
        return calibrate(
            _preparing(subject.engine, samples, limits),
            limits,
            _clock(subject),
            length=samples.length,
            never=subject.never,
        )

    return CalibrationCache(folder).get(_fingerprint(subject, samples, limits), measure)


def _clock(subject: Subject) -> Callable[[], float]:
    """Return this thread's processor time where it does all the work, else the time of day's."""
    alone = subject.engine.provider == "cpu" and subject.options.threads_in_a_run == 1
    return time.thread_time if alone else time.perf_counter


def _preparing(
    engine: OrtEngine, samples: Samples, limits: Limits
) -> Callable[[int, int | None], Callable[[], None]]:
    names = [spec.name for spec in engine.outputs]

    def prepare(rows: int, length: int | None) -> Callable[[], None]:
        batch = samples.batch(rows, length)
        engine.run_within(batch, names, _PATIENCE * limits.seconds)

        def run() -> None:
            engine.run(batch, names)

        return run

    return prepare


def _samples(subject: Subject, limits: Limits) -> Samples | None:
    engine = subject.engine
    if subject.golden is not None:
        try:
            return golden_samples(subject.contract, subject.golden, subject.pipeline)
        except (InvalidRequest, TooLarge):
            # Its proof has said so already; what is left is not to know the cost.
            return None
    names = [spec.name for spec in engine.outputs]
    return random_samples(
        subject.contract,
        lambda call: engine.run_within(call, names, _PATIENCE * limits.seconds),
    )


def warm_up_plan(
    measured: Iterable[int], max_rows: int, length: int | None, *, on_device: bool
) -> list[tuple[int, int | None]]:
    """Return the (rows, length) of the runs before a model is ready, the longest lengths last.

    On the CPU each measured size is run once.  A device plans, loads code and takes memory for
    each new shape, so there each size and each bucket of lengths is run, as often as it takes a
    graph to be recorded.
    """
    if not on_device:
        return [(rows, length) for rows in measured if rows <= max_rows]
    lengths = [length] if length is None else buckets_up_to(length)
    return [
        (rows, one)
        for rows in sizes_up_to(max_rows)
        for one in lengths
        for _ in range(_RUNS_TO_RECORD)
    ]


def _warm_up(engine: OrtEngine, samples: Samples, known: Calibration, max_rows: int) -> None:
    """Run each size that may come; a failure here is one that a run would have."""
    plan = warm_up_plan(known.seconds, max_rows, samples.length, on_device=engine.provider != "cpu")
    try:
        engine.warm_up(samples.batch(rows, length) for rows, length in plan)
    except (InvalidRequest, EngineFailure):
        return


def _fingerprint(subject: Subject, samples: Samples, limits: Limits) -> Mapping[str, object]:
    """Return everything that a calibration depends on."""
    options = subject.options
    return {
        "format": 1,
        "model": subject.digest,
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "onnxruntime": engines.version(),
        "provider": subject.engine.provider,
        "intra_op_threads": options.threads_in_a_run,
        "session": dict(options.session),
        "provider_options": dict(options.provider),
        "length": samples.length,
        "golden": subject.golden is not None,
        "never": subject.never,
        "limits": asdict(limits),
    }
