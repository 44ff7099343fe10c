"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report
from benchmarks.cases import PLANS, Plan, narrowed
from benchmarks.catalogue import DEFAULTS, catalogue, chosen
from benchmarks.errors import BenchmarkError
from benchmarks.runner import Findings, Order, new_findings, run
from benchmarks.servers import ROOT
from benchmarks.summary import summarise

_LISTS = {
    "servers": "servers by name",
    "models": "models by name",
    "encodings": "json, binary",
    "connections": "connections of the closed loops",
    "rows": "rows a request",
    "factors": "open loops at these multiples of what the closed loops reached",
}


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write it as Markdown and JSON."""
    asked = _parser().parse_args(arguments)
    try:
        order = _order(asked)
        findings = new_findings(order)
        _measure(order, findings, asked.results, asked.name)
    except (BenchmarkError, ValueError) as error:
        sys.exit(f"benchmarks: {error}")
    if not findings.complete:
        sys.exit(130)
    if findings.problems:
        sys.exit(f"benchmarks: not measured: {', '.join(findings.problems)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    add = parser.add_argument
    add("verb", choices=("run",), help="what to do")
    add("--plan", choices=PLANS, default="quick", help="the cases that are not narrowed below")
    for name, text in _LISTS.items():
        add(f"--{name}", default="", help=f"{text}, comma-separated (default: the plan's)")
    add("--seconds", type=float, default=2.0, help="length of a window (default: 2)")
    add("--repeats", type=int, default=3, help="windows of each case (default: 3)")
    add("--onnxport-args", default="", help="added to `onnxport serve`")
    add("--repository", type=Path, default=ROOT / "models", help="where the trained bundles are")
    add("--cache", type=Path, default=ROOT / ".benchmarks", help="for what is built once")
    add("--results", type=Path, default=ROOT / "benchmarks" / "results", help="for the report")
    add("--name", default=f"{datetime.now(UTC):%Y%m%d-%H%M%S}", help="the report's name")
    return parser


def _order(asked: argparse.Namespace) -> Order:
    return Order(
        _plan(asked),
        chosen(_split(asked.servers) or DEFAULTS[asked.plan], catalogue(asked.onnxport_args)),
        asked.seconds,
        asked.repeats,
        asked.cache.resolve(),
        asked.repository.resolve(),
    )


def _plan(asked: argparse.Namespace) -> Plan:
    return narrowed(
        PLANS[asked.plan],
        models=_split(asked.models),
        encodings=_split(asked.encodings),
        connections=tuple(map(int, _split(asked.connections))),
        rows=tuple(map(int, _split(asked.rows))),
        factors=tuple(map(float, _split(asked.factors))) or None,
    )


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _measure(order: Order, findings: Findings, results: Path, name: str) -> None:
    """Report what there is, also when the run is ended early."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(order, findings, lambda line: print(line, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print("interrupted; all servers are ended", file=sys.stderr)
    if not findings.windows:
        return
    print(report.markdown(findings))
    for file in (*report.write(findings, results, name), *_picture(findings, results, name)):
        print(f"written: {file}", file=sys.stderr)


def _picture(findings: Findings, results: Path, name: str) -> list[Path]:
    """Draw the run where matplotlib is installed; it comes with the `train` extra."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from benchmarks.plot import draw  # noqa: PLC0415

    limits = findings.limits()
    return [draw(summarise(findings.windows, limits), limits, results / f"{name}.png")]


if __name__ == "__main__":
    main()
