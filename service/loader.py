"""From files to something that answers: proved here, or opened as another process has proved it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import TypeAdapter

from service import engine as engines
from service.bundle import GOLDEN_FILE
from service.calibration import Calibration
from service.contract import Contract
from service.cpu import usable_memory
from service.engine import Engine, EngineOptions, ModelBytes, OrtEngine, on_cpu
from service.errors import ProviderUnavailable
from service.golden import Golden
from service.golden import load as load_golden
from service.likeness import compare
from service.pipeline import Pipeline, make_pipeline
from service.proof import Proved, about, prove
from service.repository import Found
from service.sealed import Sealed, SealedFile
from service.serving import BatchingRules, Profile, Verify
from service.showcase import Showcase, showcase_of
from service.tuning import Subject, Tuning, TuningOptions, tune
from service.version import Kept, Version, model_bytes, read_version

OnStep = Callable[[str], None]
# Beside its files in memory a model needs room for its session and its runs.
_FILES_SHARE: Final = 0.5
_DIFFERENCE: Final = "difference_to_cpu"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How models are opened and how much they must prove.

    ``max_bytes`` are all files of a version together; 0 stands for half of the memory.
    """

    engine: EngineOptions = field(default_factory=EngineOptions)
    verify: Verify = "enforce"
    max_rows: int = 32
    profile: Profile = "throughput"
    cores: int = 1
    batching: BatchingRules = field(default_factory=BatchingRules)
    tuning: TuningOptions = field(default_factory=TuningOptions)
    max_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that may answer, and everything that is known about it as JSON-able ``info``.

    ``kept`` are its files where its rules ask for a process of its own, which may end and begin
    anew.
    """

    contract: Contract
    pipeline: Pipeline
    engine: Engine
    info: dict[str, object]
    showcase: Showcase | None = None
    tuning: Tuning | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a proof in one process tells the processes that serve.

    ``files`` are those that were sealed, below ``root``.  ``file``, ``weights``, ``any_shape`` and
    ``value_dependent`` are as in `Version` and `ModelInfo`; ``proved`` says that the golden
    vectors hold.
    """

    contract: Contract
    info: dict[str, Any]
    calibration: Calibration | None
    root: str
    files: tuple[SealedFile, ...]
    file: str
    weights: dict[str, str]
    any_shape: tuple[str, ...] | None
    value_dependent: tuple[str, ...] | None
    proved: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        members: dict[str, Any] = _REPORT.dump_python(self, mode="json")
        return members

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> Report:
        """Return what `as_json` has given; raises ValueError for anything else."""
        # Contracts are strict, and know what JSON cannot say otherwise.
        return _REPORT.validate_json(json.dumps(members))


_REPORT: Final = TypeAdapter(Report)


def load_model(found: Found, options: LoadOptions, on_step: OnStep) -> Loaded:
    """Prove and open one version in this process; ``on_step`` hears VERIFYING and WARMING begin.

    Raises BundleError, VerificationFailed, FilesChanged or ProviderUnavailable with the reason;
    nothing stays open then.
    """
    with _reading(found, options) as version:
        loaded = _loaded(version, options, on_step)[0]
        return replace(loaded, kept=version.kept()) if found.rules.apart else loaded


def prove_version(found: Found, options: LoadOptions, on_step: OnStep) -> tuple[Report, Sealed]:
    """Prove one version and close it again; raises as `load_model` does.

    The files are what was proved, to be opened with the report, and the caller's to close.
    """
    with _reading(found, options) as version:
        loaded, proved = _loaded(version, options, on_step)
        loaded.engine.close()
        model = version.model
        report = Report(
            contract=loaded.contract,
            info=loaded.info,
            calibration=loaded.tuning.calibration if loaded.tuning else None,
            root=os.fspath(version.root),
            files=tuple(version.sealed.files.values()),
            file=version.file,
            weights=dict(version.weights),
            any_shape=None if model is None else tuple(sorted(model.any_shape)),
            value_dependent=None if model is None else model.value_dependent,
            proved=proved.golden is not None,
        )
        return report, version.sealed.kept()


def open_proved(found: Found, options: LoadOptions, report: Report, sealed: Sealed) -> Loaded:
    """Open what another process has proved, from the very bytes; each batch size is run once.

    Raises BundleError if this process cannot open it, ProviderUnavailable if it would run
    elsewhere than where it was proved.
    """
    started = time.monotonic()
    source = model_bytes(sealed, report.file, report.weights, found.model_file)
    engine = OrtEngine(source, options.engine, any_shape=report.any_shape)
    try:
        _require_provider(engine, report.info["runtime"]["provider"])
        golden = load_golden(sealed.read(GOLDEN_FILE)) if report.proved else None
        proved = Proved(report.contract, {}, {}, golden)
        subject = _subject(engine, options, proved, report.info, report.value_dependent)
        tuning = _tuned(subject, options, report.calibration)
        showcase = showcase_of(report.contract, subject.pipeline, golden)
    except BaseException:
        # Whatever has ended it: nobody else knows of this session.
        engine.close()
        raise
    info = {
        **report.info,
        "runtime": _runtime(engine, options) | _measured(report.info),
        "load_seconds": _since(started),
    }
    kept = Kept(found, sealed.kept(), report.file, report.weights) if found.rules.apart else None
    return Loaded(report.contract, subject.pipeline, engine, info, showcase, tuning, kept)


def _require_provider(engine: OrtEngine, proved_on: str) -> None:
    if engine.provider != proved_on:
        raise ProviderUnavailable(
            f"provider '{proved_on}': the model was proved on it, here it runs on "
            f"'{engine.provider}'"
        )


@contextmanager
def _reading(found: Found, options: LoadOptions) -> Iterator[Version]:
    """Have a version's files in memory."""
    most = options.max_bytes or int(_FILES_SHARE * usable_memory())
    version = read_version(found, max_bytes=most, proof=options.verify != "off")
    try:
        yield version
    finally:
        version.sealed.close()


def _loaded(version: Version, options: LoadOptions, on_step: OnStep) -> tuple[Loaded, Proved]:
    started, model = time.monotonic(), version.model
    any_shape = None if model is None else model.any_shape
    engine = OrtEngine(version.source, options.engine, any_shape=any_shape)
    try:
        on_step("VERIFYING")
        proved = prove(version, engine, options.verify, max_rows=options.max_rows)
        known = about(version, proved.contract)
        dependent = None if model is None else model.value_dependent
        subject = _subject(engine, options, proved, known, dependent)
        showcase = showcase_of(proved.contract, subject.pipeline, proved.golden)
        on_step("WARMING")
        tuning = _tuned(subject, options, None)
        measured = _difference(version.source, subject, options, proved.golden)
    except BaseException:
        # Whatever has ended it: nobody else knows of this session.
        engine.close()
        raise
    info = {
        **known,
        "batching": dict(proved.batching),
        "tuning": tuning.as_json(),
        "verification": dict(proved.verification),
        "runtime": _runtime(engine, options) | measured,
        "load_seconds": _since(started),
    }
    return Loaded(proved.contract, subject.pipeline, engine, info, showcase, tuning), proved


def _tuned(subject: Subject, options: LoadOptions, known: Calibration | None) -> Tuning:
    alone = subject.engine.provider != "cpu" or options.profile == "latency"
    return tune(
        subject, options.batching, options.tuning, options.max_rows, alone=alone, known=known
    )


def _runtime(engine: OrtEngine, options: LoadOptions) -> dict[str, object]:
    return {
        "provider": engine.provider,
        "providers_asked": list(options.engine.providers),
        "profile": options.profile,
        **engine.as_opened(),
        "onnxruntime": engines.version(),
    }


def _difference(
    source: ModelBytes, subject: Subject, options: LoadOptions, golden: Golden | None
) -> dict[str, object]:
    """Return how far the golden answers of a device are from the CPU's; nothing on the CPU."""
    engine = subject.engine
    if engine.provider == "cpu" or golden is None:
        return {}
    cpu = OrtEngine(source, on_cpu(options.engine))
    try:
        seen = compare(subject.contract, golden, subject.pipeline, (engine, cpu))
    finally:
        cpu.close()
    return {_DIFFERENCE: seen.as_json()}


def _measured(known: Mapping[str, Any]) -> dict[str, object]:
    """Return what of a runtime was measured where the model was proved."""
    return {name: value for name, value in known["runtime"].items() if name == _DIFFERENCE}


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


def options_for(found: Found, options: LoadOptions) -> LoadOptions:
    """Return the options with what the model's own rules say otherwise.

    The profile becomes threads of a run: all cores for "latency", one for "throughput".
    """
    rules = found.rules
    profile = rules.profile or options.profile
    return replace(
        options,
        verify=rules.verify or options.verify,
        profile=profile,
        batching=rules.batching,
        engine=replace(
            options.engine,
            intra_op_threads=options.cores if profile == "latency" else 1,
            session={**options.engine.session, **rules.ort.session},
            provider={**options.engine.provider, **rules.ort.provider},
            by_provider={**options.engine.by_provider, **rules.ort.providers},
            providers=rules.providers or options.engine.providers,
            strict_placement=_either(rules.strict_placement, options.engine.strict_placement),
            cuda_graphs=_either(rules.cuda_graphs, options.engine.cuda_graphs),
        ),
    )


def _either(own: bool | None, default: bool) -> bool:  # noqa: FBT001 - two of a kind
    return default if own is None else own


def _subject(
    engine: OrtEngine,
    options: LoadOptions,
    proved: Proved,
    known: Mapping[str, Any],
    value_dependent: tuple[str, ...] | None,
) -> Subject:
    golden: Golden | None = proved.golden
    digest = known.get("digest") or next(iter(known["files"].values()))["sha256"]
    pipeline = make_pipeline(proved.contract)
    return Subject(
        engine, options.engine, proved.contract, pipeline, golden, digest, value_dependent
    )
