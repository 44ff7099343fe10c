"""The report of a run: one table in Markdown, the same as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks.measure import NOISY_SHARE
from benchmarks.runner import Findings
from benchmarks.summary import Row, idle_cpu, summarise

_HEAD = (
    ("model", "encoding", "rows", "load", "server"),
    ("req/s", "spread", "rows/s", "p50 ms", "p99 ms", "CPU s/1000", "PSS MB", "limit", "quiet"),
)
_COLUMNS = (*_HEAD[0], *_HEAD[1], "remarks")
_READING = (
    "Medians over the quiet windows if there were two, else over all. A window is quiet if other "
    f"processes and other guests of the host took at most {NOISY_SHARE:.0%} of the machine; "
    "`quiet` counts them, `spread` is the slowest and the fastest window that counted. CPU is "
    "user and system time of all the server's processes, PSS their proportional memory with all "
    "models of the run loaded. `limit` is rows/s over the best of ONNX Runtime in process. Where a "
    "server has several working processes, `busiest` is the CPU of the busiest over their mean."
)


def table(rows: Sequence[Row]) -> str:
    """Return all rows as a Markdown table, the servers of a case one below the other."""
    rule = ["---"] * len(_HEAD[0]) + ["--:"] * len(_HEAD[1]) + ["---"]
    return "\n".join(_line(cells) for cells in (_COLUMNS, rule, *map(_cells, rows)))


def limits_table(raw: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return ONNX Runtime's own rows/s, a row a model and a column an arrangement."""
    labels = list(dict.fromkeys(label for rates in raw.values() for label in rates))
    lines = [("model", *labels, "limit"), ["---"] + ["--:"] * (len(labels) + 1)]
    for model, rates in raw.items():
        values = [median(rates[label]) for label in labels]
        lines.append((model, *(f"{value:,.0f}" for value in values), f"**{max(values):,.0f}**"))
    return "\n".join(map(_line, lines))


def markdown(findings: Findings) -> str:
    """Return the whole report."""
    rows = summarise(findings.windows, findings.limits())
    parts = [
        f"# Benchmark of {findings.started}",
        _machine(findings),
        "## ONNX Runtime in process, rows/s\n\n" + limits_table(findings.raw),
        "## Servers\n\n" + table(rows),
        _notes(findings),
        "## Settings\n\n" + _settings(findings),
    ]
    return "\n\n".join(parts) + "\n"


def as_json(findings: Findings) -> str:
    """Return everything, windows included; what was not measured is null."""
    rows = summarise(findings.windows, findings.limits())
    content = {
        **asdict(findings),
        "limits": findings.limits(),
        "rows": [asdict(row) for row in rows],
    }
    return json.dumps(_finite(content), indent=1) + "\n"


def write(findings: Findings, folder: Path, name: str) -> list[Path]:
    """Write both files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{name}.md": markdown(findings), folder / f"{name}.json": as_json(findings)}
    for file, text in files.items():
        file.write_text(text)
    return list(files)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> tuple[str, ...]:
    case = row.case
    load = f"open, {case.factor:g} x" if case.factor else f"{case.connections} connections"
    return (
        case.model,
        case.encoding,
        str(case.rows),
        load,
        row.server,
        f"{row.rate:,.0f}",
        f"{row.low:,.0f} - {row.high:,.0f}",
        f"{row.rows_rate:,.0f}",
        _milliseconds(row.p50),
        _milliseconds(row.p99),
        "-" if math.isnan(row.cpu_per_request) else f"{row.cpu_per_request * 1000:.3f}",
        f"{row.memory / 1e6:,.0f}",
        "-" if math.isnan(row.share) else f"{row.share:.0%}",
        f"{row.quiet}/{row.windows}",
        _remarks(row),
    )


def _milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1000:.2f}"


def _remarks(row: Row) -> str:
    remarks = [f"{count:,} {kind}" for kind, count in row.errors.items()]
    if row.case.factor:
        remarks.append(f"offered {row.offered:,.0f}/s")
    if row.busiest > 1:
        remarks.append(f"busiest process {row.busiest:.2f} x")
    if not math.isnan(row.health_p99):
        remarks.append(f"health p99 {_milliseconds(row.health_p99)} ms")
    return ", ".join(remarks)


def _machine(findings: Findings) -> str:
    machine = findings.machine
    state = "" if findings.complete else " **The run was interrupted: cases are missing.**"
    ceilings = ", ".join(
        f"{rate:,.0f} requests/s with {connections} connection(s)"
        for connections, rate in findings.ceilings.items()
    )
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, Linux "
        f"{machine['kernel']}, Python {machine['python']}, ONNX Runtime {machine['onnxruntime']}. "
        f"{findings.repeats} repeats of {findings.seconds:g} s, servers in turn, the generator of "
        f"load on the same cores. Alone, against a bare responder: {ceilings}.{state}"
    )


def _notes(findings: Findings) -> str:
    idle = ", ".join(f"{name} {used:.1%}" for name, used in idle_cpu(findings.windows).items())
    lines = [_READING]
    if idle:
        lines.append(f"CPU of servers while others were measured, of one core: {idle}.")
    lines += [f"**Not measured:** {name}: {why}" for name, why in findings.problems.items()]
    return "\n\n".join(lines)


def _settings(findings: Findings) -> str:
    lines: list[Sequence[str]] = [("server", "version", "settings"), ["---"] * 3]
    lines += [(name, findings.versions[name], text) for name, text in findings.settings.items()]
    return "\n".join(map(_line, lines))


def _finite(value: object) -> object:
    """Return a copy in which NaN, which JSON has no word for, is None."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
