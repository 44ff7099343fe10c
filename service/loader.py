"""One model load: hashes, session, contract, golden vectors, and then something that answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from service import engine as engines
from service.bundle import GOLDEN_FILE, REPORTS, Bundle, read_bundle
from service.contract import MODEL_FILE, Contract, InputContract, OutputContract, TensorPipeline
from service.engine import Engine, EngineOptions, OrtEngine
from service.errors import BundleError, VerificationFailed
from service.golden import load as load_golden
from service.pipeline import Pipeline, make_pipeline
from service.repository import Found
from service.serving import Verify
from service.verifier import check_contract, verify


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How models are opened and how much they must prove."""

    engine: EngineOptions = field(default_factory=EngineOptions)
    verify: Verify = "enforce"
    max_rows: int = 32


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that may answer, and everything that is known about it as JSON-able ``info``."""

    contract: Contract
    pipeline: Pipeline
    engine: Engine
    info: dict[str, object]


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
    engine = OrtEngine(str(found.model_file), options.engine)
    try:
        contract = bundle.manifest if bundle is not None else bare_contract(engine)
        pipeline = make_pipeline(contract)
        on_step("VERIFYING")
        proof = _prove(bundle, engine, pipeline, options)
        about = _about(found, bundle, contract)
    except BaseException:
        engine.close()
        raise
    info = {
        **about,
        "verification": proof,
        "runtime": {
            "provider": engine.provider,
            "providers_asked": list(options.engine.providers),
            "intra_op_threads": options.engine.intra_op_threads,
            "onnxruntime": engines.version(),
        },
        "load_seconds": round(time.monotonic() - started, 3),
    }
    return Loaded(contract, pipeline, engine, info)


def options_for(found: Found, options: LoadOptions) -> LoadOptions:
    """Return the options with what the model's own rules say otherwise."""
    return options if found.rules.verify is None else replace(options, verify=found.rules.verify)


def bare_contract(engine: Engine) -> Contract:
    """Return what can be said of a model without a bundle: its tensors, and no promise.

    Raises BundleError for a graph that takes nothing, since there is nothing to ask it.
    """
    if not engine.inputs:
        raise BundleError("the graph has no inputs")
    return Contract(
        task="tensor",
        inputs=[
            InputContract(name=s.name, datatype=s.datatype, shape=list(s.shape), finite=False)
            for s in engine.inputs
        ],
        outputs=[
            OutputContract(name=s.name, datatype=s.datatype, shape=list(s.shape))
            for s in engine.outputs
        ],
        pipeline=TensorPipeline(),
        batchable=False,
    )


def _prove(
    bundle: Bundle | None, engine: Engine, pipeline: Pipeline, options: LoadOptions
) -> dict[str, object]:
    """Return what was proved, or why nothing was; raise only if ``verify`` is "enforce"."""
    if bundle is None:
        return {"status": "skipped", "reason": "a bare ONNX file carries no proof"}
    if options.verify == "off":
        return {"status": "skipped", "reason": "switched off by verify = off"}
    try:
        check_contract(bundle.manifest, engine)
        golden = load_golden(bundle.read(GOLDEN_FILE))
        report = verify(bundle.manifest, golden, engine, pipeline, max_rows=options.max_rows)
    except (VerificationFailed, BundleError) as error:
        if options.verify == "enforce":
            raise
        return {"status": "failed", "reason": str(error)}
    return {"status": "passed", **report.as_json()}


def _about(found: Found, bundle: Bundle | None, contract: Contract) -> dict[str, object]:
    if bundle is None:
        return {
            "kind": "onnx",
            "contract": contract.model_dump(mode="json"),
            "labels": None,
            "evaluation": None,
            "parity": None,
            "data_stats": None,
            "files": {MODEL_FILE: {"bytes": _size(found.model_file)}},
        }
    manifest = bundle.manifest
    reports = {name: bundle.report(name) for name in REPORTS}
    return {
        "kind": "bundle",
        "digest": manifest.digest,
        "contract": manifest.model_dump(mode="json", include=set(Contract.model_fields)),
        "labels": manifest.labels,
        "evaluation": reports["metrics"],
        "parity": reports["parity"],
        "data_stats": reports["data_stats"],
        "producer": manifest.producer,
        "files": {name: entry.model_dump() for name, entry in manifest.files.items()},
    }


def _size(file: Path) -> int:
    return file.stat().st_size
