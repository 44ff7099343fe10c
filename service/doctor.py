"""Whether what is wished for works here: wheels, providers and models, each tried apart."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from service import __version__, cpu, machine
from service.errors import ServiceError
from service.isolation import Ended, RunChild, run_module
from service.repository import Found, scan
from service.wheels import GPU_WHEEL, has_runtime, installed_wheels, wheel_problem

Report = dict[str, Any]
_PROVIDER_SECONDS, _MODEL_SECONDS = 60.0, 300.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What should work: providers as settings name them, and the models of a repository."""

    providers: tuple[str, ...] = ("auto",)
    repository: Path | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the facts come from; a test gives its own."""

    child: RunChild = run_module
    wheels: Callable[[], Mapping[str, str]] = installed_wheels
    whole: Callable[[str], bool] = has_runtime
    gpus: Callable[[], Sequence[Mapping[str, str]]] = machine.gpus
    places: Callable[[], Sequence[Path]] = machine.library_places


def examine(wish: Wish, around: Surroundings | None = None) -> Report:
    """Return what there is and what works as plain values; ``problems`` is empty if all does.

    Nothing that could crash is loaded into this process.
    """
    around = around or Surroundings()
    wheels = dict(around.wheels())
    report: Report = {
        "onnxport": __version__,
        "python": platform.python_version(),
        "cores": {
            "usable": cpu.usable_cores(),
            "machine": os.cpu_count(),
            "quota": cpu.quota(),
        },
        "memory": machine.memory(),
        "wheels": wheels,
        "gpus": [dict(gpu) for gpu in around.gpus()],
        "libraries": machine.libraries(around.places()),
        "asked": list(wish.providers),
        "providers": [_provider(name, around.child) for name in _tried(wish, wheels)],
    }
    models, missing = _models(wish, around.child) if wheels else ([], "")
    report["models"] = models
    of_wheels = wheel_problem(wheels, wish.providers, around.whole)
    problems = [of_wheels, *provider_problems(report), *model_problems(models), missing]
    report["problems"] = [problem for problem in problems if problem]
    return report


def _tried(wish: Wish, wheels: Mapping[str, str]) -> list[str]:
    """Return the providers to try: the CPU, those wished for, and CUDA where its wheel is."""
    if not wheels:
        return []
    wished = [name for name in wish.providers if name != "auto"]
    offered = ["cuda"] if GPU_WHEEL in wheels else []
    return list(dict.fromkeys(["cpu", *wished, *offered]))


def _provider(name: str, child: RunChild) -> Report:
    ended = child(["service.attempt", name], _PROVIDER_SECONDS)
    found = _object(ended)
    if found is None:
        return {"name": name, "loads": False, "reason": ended.problem or "it said nothing"}
    return {"name": name, **found}


def _object(ended: Ended) -> Report | None:
    """Return the JSON object that a child wrote, None where it did not come to that."""
    try:
        value = orjson.loads(ended.out)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _models(wish: Wish, child: RunChild) -> tuple[list[Report], str]:
    if wish.repository is None:
        return [], ""
    try:
        found = scan(wish.repository)
    except ServiceError as error:
        return [], str(error)
    if not found:
        return [], f"{wish.repository}: holds no model"
    return [_model(one, wish, child) for one in found], ""


def _model(found: Found, wish: Wish, child: RunChild) -> Report:
    head: Report = {"name": found.name, "version": found.version, "path": str(found.path)}
    if found.problem:
        return {**head, "status": "failed", "reason": found.problem}
    providers = ["--providers", ",".join(wish.providers)]
    ended = child(
        ["service", "verify", str(found.path), *providers, "--output", "json"], _MODEL_SECONDS
    )
    proofs = (_object(ended) or {}).get("models")
    if not proofs:
        return {**head, "status": "failed", "reason": ended.problem or "it said nothing"}
    return {**proofs[0], **head}


def provider_problems(report: Mapping[str, Any]) -> list[str]:
    """Return why what was asked for does not load, in words that say what to do.

    "auto" asks for the CPU alone, and a list that ends in the CPU lets it stand in for the others.
    """
    asked = report["asked"]
    wished = {"cpu"} if "auto" in asked or "cpu" in asked else set(asked)
    return [
        _with_name(one) for one in report["providers"] if one["name"] in wished and not one["loads"]
    ]


def _with_name(provider: Mapping[str, Any]) -> str:
    name, reason = f"provider '{provider['name']}'", str(provider["reason"])
    return reason if reason.startswith(name) else f"{name}: {reason}"


def model_problems(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which models do not load, with the reason."""
    return [
        f"model '{one['name']}' version {one['version']} does not load: {one['reason']}"
        for one in models
        if one["status"] == "failed"
    ]
