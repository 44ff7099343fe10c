"""What a version must prove of itself before it takes traffic, and what is known then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.bundle import GOLDEN_FILE, REPORTS, Bundle
from service.contract import Contract, InputContract, OutputContract, TensorPipeline
from service.engine import OrtEngine
from service.errors import BundleError, Refused, VerificationFailed
from service.golden import Golden
from service.golden import load as load_golden
from service.pipeline import make_pipeline
from service.prober import Probe, probe
from service.refusals import Refusal
from service.serving import Verify
from service.tensors import ANY_SHAPE
from service.verifier import check_contract, verify
from service.version import Version


@dataclass(frozen=True, slots=True)
class Proved:
    """The contract that holds, and for model-info what was proved and whether rows share runs."""

    contract: Contract
    verification: Mapping[str, object]
    batching: Mapping[str, object]
    golden: Golden | None = None


def prove(version: Version, engine: OrtEngine, level: Verify, *, max_rows: int) -> Proved:
    """Compare an open model with what its bundle says; a bare file is only asked about its rows.

    Raises VerificationFailed or BundleError only if ``level`` is "enforce".  Rows that a bundle
    promises to be independent, but that are not, never share a run.
    """
    bundle = version.bundle
    if bundle is None:
        return _bare(engine)
    promise = bundle.manifest
    if level == "off":
        reason = {"status": "skipped", "reason": "switched off by verify = off"}
        batching = {"rows_independent": promise.batchable, "why": "the bundle says so, unchecked"}
        return Proved(promise, reason, batching)
    rows = Probe("no", "the bundle says that rows are not independent")
    golden = None
    try:
        check_contract(promise, engine)
        if promise.batchable:
            rows = probe(promise.input_specs, promise.output_specs, engine.run_within)
        verification, golden = _verified(bundle, engine, rows, max_rows)
    except Refused as error:
        if level == "enforce":
            raise
        told = version.found.told(str(error))
        verification = {"status": "failed", "code": error.code, "reason": told}
    if rows.verdict == "unknown" and verification["status"] == "passed":
        sizes = verification["batch_sizes"]
        rows = Probe("yes", f"the golden vectors hold at batch sizes {sizes}; {rows.why}")
    contract = promise.model_copy(update={"batchable": rows.verdict == "yes"})
    return Proved(contract, verification, rows.as_json(), golden)


def _verified(
    bundle: Bundle, engine: OrtEngine, rows: Probe, max_rows: int
) -> tuple[Mapping[str, object], Golden]:
    if bundle.manifest.batchable and rows.verdict == "no":
        text = f"the bundle promises independent rows, but {rows.why}"
        raise VerificationFailed(text, Refusal.ROWS_DEPENDENT)
    golden = golden_of(bundle)
    pipeline = make_pipeline(bundle.manifest)
    report = verify(bundle.manifest, golden, engine, pipeline, max_rows=max_rows)
    return {"status": "passed", **report.as_json()}, golden


def golden_of(bundle: Bundle) -> Golden:
    """Return a bundle's golden vectors; raises BundleError where it has none that can be read."""
    return load_golden(bundle.read(GOLDEN_FILE))


def _bare(engine: OrtEngine) -> Proved:
    found = probe(engine.inputs, engine.outputs, engine.run_within)
    contract = bare_contract(engine, batchable=found.verdict == "yes")
    skipped = {"status": "skipped", "reason": "a bare ONNX file carries no proof"}
    return Proved(contract, skipped, found.as_json())


def bare_contract(engine: OrtEngine, *, batchable: bool = False) -> Contract:
    """Return what can be said of a model without a bundle: its tensors, and no promise.

    Raises BundleError for a graph that takes or gives nothing, since there is nothing to ask it.
    """
    specs = (*engine.inputs, *engine.optional_inputs)
    if not specs:
        raise BundleError("the graph has no inputs", Refusal.INVALID_GRAPH)
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


def about(version: Version, contract: Contract) -> dict[str, Any]:
    """Return what is known of a version whatever its engine does, for model-info."""
    bundle, found, model = version.bundle, version.found, version.model
    known: dict[str, Any] = {
        "model": model.as_json() if model else None,
        "notes": _notes(version, contract),
    }
    if bundle is None:
        file = version.sealed.files[version.file]
        return {
            "kind": "ort" if found.is_ort else "onnx",
            **known,
            "contract": contract.model_dump(mode="json"),
            "labels": None,
            "evaluation": None,
            "parity": None,
            "precision": None,
            "data_stats": None,
            "files": {file.name: {"sha256": file.sha256, "bytes": file.bytes}, **_beside(version)},
        }
    manifest = bundle.manifest
    reports = {name: bundle.report(name) for name in REPORTS}
    return {
        "kind": "bundle",
        **known,
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


def _beside(version: Version) -> dict[str, dict[str, object]]:
    """Return the weights that lie beside a bare file, as it was read."""
    files = (version.sealed.files[name] for name in sorted(set(version.weights.values())))
    return {file.name: {"sha256": file.sha256, "bytes": file.bytes} for file in files}


def _notes(version: Version, contract: Contract) -> list[str]:
    """Return what is unusual about a model, one sentence each."""
    model, file = version.model, version.found.model_file.name
    notes = model.notes if model else [f"{file} is in ORT format, not inspected"]
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
