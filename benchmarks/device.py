"""Models on a device, in process: ``python -m benchmarks.device`` prints a table.

Each model is measured in a process of its own, so that a crash or a lack of memory is one row.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from benchmarks.models import SAMPLES, SYNTHETIC, Subject, subjects
from benchmarks.networks import halved
from benchmarks.servers import ROOT
from service.cuda import look, why_not
from service.engine import EngineOptions, OrtEngine
from service.errors import ServiceError
from service.likeness import distances
from service.tensors import Tensors

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
KINDS = ("fp32", "fp32 graphs", "fp16", "fp16 graphs")
NO_DEVICE = 77
_SECONDS = 0.5
_MOST_RUNS = 200


@dataclass(frozen=True, slots=True)
class Wish:
    """What is measured: a model, a kind of it, the provider, and rows of a batch."""

    model: str
    kind: str
    provider: str
    rows: tuple[int, ...]
    cache: Path


@dataclass(frozen=True, slots=True)
class Figures:
    """What was seen of a model; seconds, bytes, and ``p50`` in seconds by rows."""

    model: str
    kind: str
    problem: str = ""
    load: float = 0.0
    first: float = 0.0
    p50: dict[int, float] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    max_abs: float = 0.0
    max_rel: float = 0.0
    labels_changed: int = 0
    device_bytes: int = 0


def measure(wish: Wish) -> Figures:
    """Load and run one model; what it refuses is told as ``problem``."""
    (subject,) = subjects([wish.model], wish.cache, ROOT / "models")
    try:
        with TemporaryDirectory(prefix="onnxport-") as folder:
            return _measured(wish, subject, Path(folder))
    except ServiceError as error:
        return Figures(wish.model, wish.kind, problem=str(error))


def _measured(wish: Wish, subject: Subject, folder: Path) -> Figures:
    file = subject.file
    if wish.kind.startswith("fp16"):
        file = folder / "half.onnx"
        file.write_bytes(halved(subject.file.read_bytes()))
    options = EngineOptions((wish.provider,), cuda_graphs=wish.kind.endswith("graphs"))
    began = time.perf_counter()
    engine = OrtEngine(str(file), options)
    load = time.perf_counter() - began
    names = [spec.name for spec in engine.outputs]
    batches = {rows: subject.collate([n % SAMPLES for n in range(rows)]) for rows in wish.rows}
    first = _seconds(lambda: engine.run(batches[wish.rows[0]], names))
    engine.warm_up([batch for batch in batches.values() for _ in range(3)])
    p50 = {rows: _p50(engine, batch, names) for rows, batch in batches.items()}
    far = _differences(engine, subject)
    seen = engine.as_opened()
    engine.close()
    return Figures(
        wish.model,
        wish.kind,
        "",
        load,
        first,
        p50,
        dict(_mapping(seen["nodes"])),
        *far,
        _grown(seen),
    )


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _p50(engine: OrtEngine, batch: Tensors, names: Sequence[str]) -> float:
    ends = time.perf_counter() + _SECONDS
    seen: list[float] = []
    while len(seen) < _MOST_RUNS and (not seen or time.perf_counter() < ends):
        seen.append(_seconds(lambda: engine.run(batch, names)))
    return statistics.median(seen)


def _differences(engine: OrtEngine, subject: Subject) -> tuple[float, float, int]:
    """Compare with FP32 on the CPU: largest differences, and labels that are others."""
    cpu = OrtEngine(str(subject.file), EngineOptions(("cpu",)))
    batch = subject.collate(range(SAMPLES))
    name = engine.outputs[0].name
    one, other = engine.run(batch, [name])[name], cpu.run(batch, [name])[name]
    cpu.close()
    changed = int((one.argmax(-1) != other.argmax(-1)).sum())
    return (*distances(one, other), changed)


def _mapping(value: object) -> Iterable[tuple[str, int]]:
    return value.items() if isinstance(value, dict) else ()


def _grown(seen: dict[str, object]) -> int:
    """Return by how much the devices' memory has grown since before the load."""
    devices = seen["devices"]
    if not isinstance(devices, list):
        return 0
    return sum(one["used_bytes_after_load"] - one["used_bytes_before_load"] for one in devices)


def apart(wish: Wish) -> Figures:
    """Measure in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(measure, wish).result()
        except BrokenProcessPool:
            return Figures(wish.model, wish.kind, problem="the process crashed")


def table(found: Sequence[Figures], rows: Sequence[int]) -> str:
    """Return the figures as Markdown: milliseconds, and rows a second at the best size."""
    head = ["model", "kind", "load s", "first ms", *(f"p50 ms, {n}" for n in rows)]
    head += ["best rows/s", "nodes", "max abs", "max rel", "labels", "MiB"]
    lines = [head, ["---"] * len(head)]
    lines += [_line(one, rows) for one in found]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(one: Figures, rows: Sequence[int]) -> list[str]:
    if one.problem:
        return [one.model, one.kind, *[""] * (len(rows) + 7), one.problem]
    best = max(n / seconds for n, seconds in one.p50.items())
    return [
        one.model,
        one.kind,
        f"{one.load:.2f}",
        f"{1e3 * one.first:.1f}",
        *(f"{1e3 * one.p50[n]:.3f}" for n in rows),
        f"{best:,.0f}",
        ", ".join(f"{name} {count}" for name, count in one.nodes.items()),
        f"{one.max_abs:.2g}",
        f"{one.max_rel:.2g}",
        f"{one.labels_changed}/{SAMPLES}",
        f"{one.device_bytes / (1 << 20):.0f}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; exits with 77 and the reason where there is no device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description=main.__doc__)
    parser.add_argument("--models", default=",".join(SYNTHETIC))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--provider", default="cuda")
    parser.add_argument("--cache", type=Path, default=ROOT / ".benchmarks")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here, too")
    asked = parser.parse_args(arguments)
    reason = why_not(look()) if asked.provider == "cuda" else ""
    if reason:
        print(f"nothing is measured: {reason}", file=sys.stderr)
        sys.exit(NO_DEVICE)
    rows = tuple(map(int, asked.rows.split(",")))
    found = []
    for model in asked.models.split(","):
        for kind in asked.kinds.split(","):
            found.append(apart(Wish(model, kind, asked.provider, rows, asked.cache.resolve())))
            print(f"measured: {model}, {kind} {found[-1].problem}", file=sys.stderr, flush=True)
    print(table(found, rows))
    if asked.json:
        asked.json.write_bytes(
            orjson.dumps([asdict(one) for one in found], option=orjson.OPT_NON_STR_KEYS)
        )


if __name__ == "__main__":
    main()
