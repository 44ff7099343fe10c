"""What a bundle or an ONNX file is, and whether it keeps its promise, as plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from service import local, modelfile
from service.bundle import REPORTS, is_bundle, read_bundle
from service.contract import Contract
from service.errors import ConfigurationError, ServiceError
from service.loader import LoadOptions
from service.repository import Found


def inspect_path(path: Path) -> dict[str, Any]:
    """Return the facts of one ONNX file; for a bundle also its contract, reports and files.

    Raises ConfigurationError if the path holds no model or several, BundleError if it is damaged.
    """
    if path.is_file():
        return {"kind": "onnx", "path": str(path), "model": modelfile.inspect(path).as_json()}
    found = local.find_all(path)
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "no model"
        raise ConfigurationError(f"{path}: holds {names}; name one of them")
    one = found[0]
    model = modelfile.inspect(one.model_file).as_json()
    if not is_bundle(one.path):
        return {"kind": "onnx", "path": str(one.model_file), "model": model}
    bundle = read_bundle(one.path)
    bundle.verify_files()
    manifest = bundle.manifest
    reports = {name: bundle.report(name) for name in REPORTS}
    return {
        "kind": "bundle",
        "path": str(one.path),
        "name": one.name,
        "version": one.version,
        "digest": manifest.digest,
        "model": model,
        "contract": manifest.model_dump(mode="json", include=set(Contract.model_fields)),
        "evaluation": reports["metrics"],
        "parity": reports["parity"],
        "precision": reports["precision"],
        "data_stats": reports["data_stats"],
        "producer": dict(manifest.producer),
        "files": {name: entry.model_dump() for name, entry in manifest.files.items()},
    }


def prove(found: Found, options: LoadOptions) -> dict[str, Any]:
    """Load one model as a server would and return how its proof went; never raises for a model."""
    head: dict[str, Any] = {"name": found.name, "version": found.version, "path": str(found.path)}
    try:
        loaded = local.load(found, options)
    except ServiceError as error:
        return {**head, "status": "failed", "reason": str(error)}
    loaded.engine.close()
    head["provider"] = loaded.engine.provider
    proof = loaded.info["verification"]
    return {**head, **proof} if isinstance(proof, dict) else head
