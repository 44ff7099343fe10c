"""What a bundle or an ONNX file is, and whether it keeps its promise, as plain values."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service import local, modelfile
from service.admission import Limits, Outcome, Prover
from service.admit import order_of
from service.bundle import REPORTS, is_bundle, read_bundle
from service.contract import Contract
from service.cpu import usable_cores
from service.errors import ConfigurationError
from service.loader import LoadOptions, options_for
from service.refusals import Refusal
from service.repository import Found
from service.verdict import verdict_of


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


def prove_all(found: Sequence[Found], options: LoadOptions, limits: Limits) -> list[dict[str, Any]]:
    """Prove models as a server would before it takes traffic, each in a process of its own.

    Returns for each what `service.verdict` tells, with its path; never raises for a model.
    """
    return asyncio.run(_prove_all(found, options, limits))


async def _prove_all(
    found: Sequence[Found], options: LoadOptions, limits: Limits
) -> list[dict[str, Any]]:
    room = asyncio.Semaphore(usable_cores())

    async def proof(one: Found) -> dict[str, Any]:
        async with room:
            return await _prove(one, options_for(one, options), limits)

    return list(await asyncio.gather(*map(proof, found)))


async def _prove(found: Found, options: LoadOptions, limits: Limits) -> dict[str, Any]:
    if found.problem:
        outcome = Outcome(Refusal.REPOSITORY, found.problem)
    else:
        outcome = await Prover().prove(order_of(found, options), limits)
    if outcome.descriptor is not None:
        os.close(outcome.descriptor)
    verdict = verdict_of(
        found.name,
        found.version,
        outcome.report.get("info", {}),
        code=outcome.code,
        reason=outcome.reason,
    )
    return {**verdict, "path": str(found.path)}
