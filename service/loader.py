"""One model load: hashes, session, contract, golden vectors, and then something that answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from service import engine as engines
from service import modelfile
from service.bundle import GOLDEN_FILE, REPORTS, Bundle, entry_of, read_bundle
from service.contract import Contract, InputContract, OutputContract, TensorPipeline
from service.engine import Engine, EngineOptions, OrtEngine, on_cpu
from service.errors import BundleError, VerificationFailed
from service.golden import Golden
from service.golden import load as load_golden
from service.likeness import compare
from service.modelfile import ModelInfo
from service.pipeline import Pipeline, make_pipeline
from service.prober import Probe, probe
from service.repository import Found
from service.serving import BatchingRules, Profile, Verify
from service.showcase import Showcase, showcase_of
from service.tensors import ANY_SHAPE
from service.tuning import Subject, Tuning, TuningOptions, tune
from service.verifier import check_contract, verify


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How models are opened and how much they must prove."""

    engine: EngineOptions = field(default_factory=EngineOptions)
    verify: Verify = "enforce"
    max_rows: int = 32
    profile: Profile = "throughput"
    cores: int = 1
    batching: BatchingRules = field(default_factory=BatchingRules)
    tuning: TuningOptions = field(default_factory=TuningOptions)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that may answer, and everything that is known about it as JSON-able ``info``."""

    contract: Contract
    pipeline: Pipeline
    engine: Engine
    info: dict[str, object]
    showcase: Showcase | None = None
    tuning: Tuning | None = None


@dataclass(frozen=True, slots=True)
class _Proved:
    """The contract that holds, and for model-info what was proved and whether rows share runs."""

    contract: Contract
    verification: dict[str, object]
    batching: dict[str, object]
    golden: Golden | None = None


def load_model(found: Found, options: LoadOptions, on_step: Callable[[str], None]) -> Loaded:
    """Load one version; ``on_step`` hears VERIFYING when it begins.

    Raises BundleError, VerificationFailed or ProviderUnavailable with the reason; nothing stays
    open then.
    """
    if found.problem:
        raise BundleError(found.problem)
    started = time.monotonic()
    bundle = read_bundle(found.path) if found.is_bundle else None
    if bundle is not None and options.verify != "off":
        bundle.verify_files()
    # Before there is a session: what a file refers to is read while the session is made.
    model = None if found.is_ort else modelfile.admit(found.model_file)
    any_shape = None if model is None else model.any_shape
    engine = OrtEngine(str(found.model_file), options.engine, any_shape=any_shape)
    try:
        on_step("VERIFYING")
        proved = _bare(engine) if bundle is None else _proved(found, bundle, engine, options)
        pipeline = make_pipeline(proved.contract)
        showcase = showcase_of(proved.contract, pipeline, proved.golden)
        about = _about(found, bundle, model, proved.contract)
        alone = engine.provider != "cpu" or options.profile == "latency"
        subject = _subject(engine, options, proved, pipeline, about, model)
        tuning = tune(subject, options.batching, options.tuning, options.max_rows, alone=alone)
    except BaseException:
        engine.close()
        raise
    info = {
        **about,
        "batching": proved.batching,
        "tuning": tuning.as_json(),
        "verification": proved.verification,
        "runtime": _runtime(engine, options)
        | _difference(found, engine, options, proved, pipeline),
        "load_seconds": round(time.monotonic() - started, 3),
    }
    return Loaded(proved.contract, pipeline, engine, info, showcase, tuning)


def _runtime(engine: OrtEngine, options: LoadOptions) -> dict[str, object]:
    return {
        "provider": engine.provider,
        "providers_asked": list(options.engine.providers),
        "profile": options.profile,
        **engine.as_opened(),
        "onnxruntime": engines.version(),
    }


def _difference(
    found: Found, engine: OrtEngine, options: LoadOptions, proved: _Proved, pipeline: Pipeline
) -> dict[str, object]:
    """Return how far the golden answers of a device are from the CPU's; nothing on the CPU."""
    if engine.provider == "cpu" or proved.golden is None:
        return {}
    cpu = OrtEngine(str(found.model_file), on_cpu(options.engine))
    try:
        seen = compare(proved.contract, proved.golden, pipeline, (engine, cpu))
    finally:
        cpu.close()
    return {"difference_to_cpu": seen.as_json()}


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
    proved: _Proved,
    pipeline: Pipeline,
    about: Mapping[str, Any],
    model: ModelInfo | None,
) -> Subject:
    files: Mapping[str, Mapping[str, Any]] = about["files"]
    digest = about.get("digest") or next(iter(files.values()))["sha256"]
    dependent = None if model is None else model.value_dependent
    return Subject(
        engine, options.engine, proved.contract, pipeline, proved.golden, digest, dependent
    )


def bare_contract(engine: OrtEngine, *, batchable: bool = False) -> Contract:
    """Return what can be said of a model without a bundle: its tensors, and no promise.

    Raises BundleError for a graph that takes or gives nothing, since there is nothing to ask it.
    """
    specs = (*engine.inputs, *engine.optional_inputs)
    if not specs:
        raise BundleError("the graph has no inputs")
    return Contract(
        task="tensor",
        inputs=[
            InputContract(
                name=s.name,
                datatype=s.datatype,
                shape=list(s.shape),
                finite=False,
                optional=s.optional,
            )
            for s in specs
        ],
        outputs=[
            OutputContract(name=s.name, datatype=s.datatype, shape=list(s.shape))
            for s in engine.outputs
        ],
        pipeline=TensorPipeline(),
        batchable=batchable,
    )


def _bare(engine: OrtEngine) -> _Proved:
    found = probe(engine.inputs, engine.outputs, engine.run_within)
    contract = bare_contract(engine, batchable=found.verdict == "yes")
    skipped: dict[str, object] = {
        "status": "skipped",
        "reason": "a bare ONNX file carries no proof",
    }
    return _Proved(contract, skipped, found.as_json())


def _proved(found: Found, bundle: Bundle, engine: OrtEngine, options: LoadOptions) -> _Proved:
    """Prove a bundle; raises VerificationFailed or BundleError only if ``verify`` is "enforce".

    Rows that a bundle promises to be independent, but that are not, never share a run.
    """
    promise = bundle.manifest
    if options.verify == "off":
        reason = {"status": "skipped", "reason": "switched off by verify = off"}
        batching = {"rows_independent": promise.batchable, "why": "the bundle says so, unchecked"}
        return _Proved(promise, dict(reason), batching)
    if promise.batchable:
        rows = probe(promise.input_specs, promise.output_specs, engine.run_within)
    else:
        rows = Probe("no", "the bundle says that rows are not independent")
    golden = None
    try:
        verification, golden = _verified(bundle, engine, rows, options)
    except (VerificationFailed, BundleError) as error:
        if options.verify == "enforce":
            raise
        verification = {"status": "failed", "reason": found.told(str(error))}
    if rows.verdict == "unknown" and verification["status"] == "passed":
        sizes = verification["batch_sizes"]
        rows = Probe("yes", f"the golden vectors hold at batch sizes {sizes}; {rows.why}")
    contract = promise.model_copy(update={"batchable": rows.verdict == "yes"})
    return _Proved(contract, verification, rows.as_json(), golden)


def _verified(
    bundle: Bundle, engine: OrtEngine, rows: Probe, options: LoadOptions
) -> tuple[dict[str, object], Golden]:
    check_contract(bundle.manifest, engine)
    if bundle.manifest.batchable and rows.verdict == "no":
        raise VerificationFailed(f"the bundle promises independent rows, but {rows.why}")
    golden = load_golden(bundle.read(GOLDEN_FILE))
    pipeline = make_pipeline(bundle.manifest)
    report = verify(bundle.manifest, golden, engine, pipeline, max_rows=options.max_rows)
    return {"status": "passed", **report.as_json()}, golden


def _about(
    found: Found, bundle: Bundle | None, model: ModelInfo | None, contract: Contract
) -> dict[str, object]:
    about: dict[str, object] = {
        "model": model.as_json() if model else None,
        "notes": _notes(found, model, contract),
    }
    if bundle is None:
        file = found.model_file
        return {
            "kind": "ort" if found.is_ort else "onnx",
            **about,
            "contract": contract.model_dump(mode="json"),
            "labels": None,
            "evaluation": None,
            "parity": None,
            "precision": None,
            "data_stats": None,
            "files": {file.name: entry_of(file)},
        }
    manifest = bundle.manifest
    reports = {name: bundle.report(name) for name in REPORTS}
    return {
        "kind": "bundle",
        **about,
        "digest": manifest.digest,
        "contract": contract.model_dump(mode="json", include=set(Contract.model_fields)),
        "labels": manifest.labels,
        "evaluation": reports["metrics"],
        "parity": reports["parity"],
        "precision": reports["precision"],
        "data_stats": reports["data_stats"],
        "producer": manifest.producer,
        "files": {name: entry.model_dump() for name, entry in manifest.files.items()},
    }


def _notes(found: Found, model: ModelInfo | None, contract: Contract) -> list[str]:
    """Return what is unusual about a model, one sentence each."""
    notes = model.notes if model else [f"{found.model_file.name} is in ORT format, not inspected"]
    for spec in contract.input_specs:
        if spec.optional:
            notes.append(f"input '{spec.name}' may be left out; a call that sends it runs alone")
        if spec.shape == ANY_SHAPE:
            notes.append(f"input '{spec.name}' does not declare its axes: any shape is taken")
    notes += [
        f"output '{spec.name}' is {spec.datatype}: V1 answers it, V2 leaves it out"
        for spec in contract.output_specs
        if not spec.is_tensor
    ]
    return notes
