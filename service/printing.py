"""Text for a terminal: what the command line answers, with colours only where they are seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.logs import printable
from service.sources import Traced

_BEST = 3
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def write_json(value: object) -> None:
    """Write a value as indented JSON; what has no form in UTF-8, as some file names, is escaped."""
    typer.echo(orjson.dumps(_utf8(value), option=_OPTIONS | orjson.OPT_INDENT_2).decode())


def _utf8(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {key: _utf8(member) for key, member in value.items()}
    return [_utf8(member) for member in value] if isinstance(value, list | tuple) else value


def answer_line(file: str, answer: object) -> str:
    """Return one answer on one line: a classifier's best labels, or the plain value."""
    if isinstance(answer, Mapping) and isinstance(answer.get("scores"), Mapping):
        best = sorted(answer["scores"].items(), key=lambda item: -item[1])[:_BEST]
        others = ", ".join(f"{label} {float(score):.4f}" for label, score in best[1:])
        text = f"{answer['label']} {float(answer['score']):.4f}  (then {others})"
    else:
        text = orjson.dumps(answer, option=_OPTIONS).decode()
    return printable(f"{file}: {text}")


def setting_rows(traced: Sequence[Traced]) -> list[dict[str, object]]:
    """Return settings as JSON can hold them."""
    return [
        {
            "name": one.name,
            "value": str(one.value) if isinstance(one.value, Path) else one.value,
            "source": one.source.value,
            "origin": one.origin,
        }
        for one in traced
    ]


def write_settings(traced: Sequence[Traced]) -> None:
    """Write one line a setting, as onnxport.toml would have it, with its source behind it."""
    lines = [(f"{row['name']} = {_toml(row['value'])}", row) for row in setting_rows(traced)]
    width = max(len(line) for line, _ in lines)
    for line, row in lines:
        typer.echo(printable(f"{line:{width}}  # {row['origin'] or row['source']}"))


def _toml(value: object) -> str:
    """Return a value as TOML; for texts, numbers and lists that is how JSON has it."""
    return orjson.dumps(_utf8(value)).decode()


def proof_line(proof: Mapping[str, Any]) -> str:
    """Return one line about one model's proof."""
    head = f"{proof['name']} version {proof['version']}: {proof.get('status', 'unknown')}"
    if "vectors" in proof:
        sizes = ", ".join(str(size) for size in proof["batch_sizes"])
        head += (
            f" ({proof['vectors']} golden vectors at batch {sizes} on {proof['provider']}, "
            f"largest difference {proof['max_abs_difference']:.3g})"
        )
    for key in ("code", "reason"):
        head += f": {proof[key]}" if key in proof else ""
    return printable(head)


def write_report(report: Mapping[str, Any]) -> None:
    """Write what `service.inspection.inspect_path` found."""
    console = Console(highlight=False)
    console.print(_facts(report))
    model = report["model"]
    for kind in ("inputs", "outputs"):
        console.print(_tensors(kind, model[kind]))
    if model["optional_inputs"]:
        console.print(_tensors("optional inputs", model["optional_inputs"]))
    console.print(_pairs("operators", model["operators"]))
    if model["metadata"]:
        console.print(_pairs("metadata", model["metadata"]))
    if "contract" in report:
        _write_bundle(console, report)


def _facts(report: Mapping[str, Any]) -> Table:
    model = report["model"]
    opsets = ", ".join(f"{domain} {version}" for domain, version in model["opsets"].items())
    facts = {
        "kind": report["kind"],
        "path": report["path"],
        "bytes": f"{model['bytes']:,}",
        "parameters": f"{model['parameters']:,}",
        "nodes": f"{model['nodes']:,}",
        "opset": opsets,
        "ir version": model["ir_version"],
        "producer": model["producer"] or "unknown",
    }
    if model["external_data"]:
        facts["external data"] = ", ".join(model["external_data"])
    if "digest" in report:
        facts = {"name": report["name"], "version": report["version"], **facts}
        facts["digest"] = report["digest"]
    return _pairs("", facts)


def _write_bundle(console: Console, report: Mapping[str, Any]) -> None:
    contract = report["contract"]
    promise = {
        "task": contract["task"],
        "pipeline": contract["pipeline"]["kind"],
        "labels": ", ".join(contract["labels"] or []) or "none",
        "rows independent": "yes" if contract["batchable"] else "no",
    }
    console.print(_pairs("contract", promise))
    for title in ("evaluation", "parity", "precision"):
        figures = report[title]
        if figures is None:
            console.print(Text(f"{title}: none"))
        else:
            console.print(_pairs(title, _scalars(figures)))
    console.print(_pairs("files", {n: f"{e['bytes']:,} bytes" for n, e in report["files"].items()}))


def _scalars(figures: Mapping[str, Any]) -> dict[str, object]:
    """Return the single figures of a report; its tables are for ``--output json``."""
    return {
        key: f"{value:.6g}" if isinstance(value, float) else value
        for key, value in figures.items()
        if isinstance(value, (str, int, float, bool))
    }


def _pairs(title: str, pairs: Mapping[str, object]) -> Table:
    table = Table(title=title or None, title_justify="left", show_header=False, box=None)
    for key, value in pairs.items():
        # Plain texts, because a name in a file may look like markup.
        table.add_row(Text(printable(str(key)), "bold"), Text(printable(str(value))))
    return table


def _tensors(title: str, tensors: Sequence[Mapping[str, Any]]) -> Table:
    rows = {}
    for tensor in tensors:
        sizes = ("...",) if tensor["shape"] is None else tensor["shape"]
        shape = ", ".join("?" if size is None else str(size) for size in sizes)
        rows[tensor["name"]] = f"{tensor['datatype']} [{shape}]"
    return _pairs(title, rows)


def write_doctor(report: Mapping[str, Any]) -> None:
    """Write what `service.doctor.examine` found, its problems last."""
    console = Console(highlight=False)
    console.print(_pairs("", _surroundings(report)))
    console.print(_pairs("providers", {one["name"]: _works(one) for one in report["providers"]}))
    if report["libraries"]:
        rows = {one["name"]: f"{one['version']}  {one['path']}" for one in report["libraries"]}
        console.print(_pairs("CUDA libraries", rows))
    for model in report["models"]:
        # A proof that passed says already where it ran.
        where = f", loads on {model['provider']}" if model["status"] == "skipped" else ""
        console.print(Text(printable(f"{proof_line(model)}{where}")), soft_wrap=True)
    for problem in report["problems"]:
        console.print(Text(printable(f"problem: {problem}"), "bold"), soft_wrap=True)
    if not report["problems"]:
        console.print(Text("all that is wished for works"))


def _surroundings(report: Mapping[str, Any]) -> dict[str, str]:
    cores, memory = report["cores"], report["memory"]
    quota = "no quota" if cores["quota"] is None else f"a quota of {cores['quota']:g}"
    limit = "no limit" if memory["limit"] is None else f"a limit of {_gigabytes(memory['limit'])}"
    gpus = [f"{one['name']}, {one['memory']}, driver {one['driver']}" for one in report["gpus"]]
    wheels = [f"{name} {version}" for name, version in report["wheels"].items()]
    return {
        "onnxport": f"{report['onnxport']} on Python {report['python']}",
        "cores": f"{cores['usable']} of {cores['machine']}, {quota}",
        "memory": f"{_gigabytes(memory['available'])} available of "
        f"{_gigabytes(memory['total'])}, {limit}",
        "wheels": ", ".join(wheels) or "none",
        "GPUs": "; ".join(gpus) or "none (nvidia-smi is absent or fails)",
    }


def _gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"


def _works(provider: Mapping[str, Any]) -> str:
    if not provider["loads"]:
        return f"does not load: {provider['reason']}"
    libraries = provider.get("libraries") or []
    return f"loads, with {', '.join(libraries)}" if libraries else "loads"
