"""A whole run: start everything, check every answer, measure round by round, end everything."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import limit, servers
from benchmarks.cases import Case, Plan, closed_cases, open_cases
from benchmarks.ceiling import ceiling
from benchmarks.checks import check, require_distinct
from benchmarks.errors import ServerUnusable
from benchmarks.load import build
from benchmarks.measure import Bench, Window
from benchmarks.models import Batch, Subject, answers, copy_repository, subjects
from benchmarks.servers import Kind, Server, Site
from benchmarks.summary import capacity

WARM_UP = 0.5
_LIMIT_SECONDS = 0.4
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: the plan, the servers, the length of a window, how often, and folders."""

    plan: Plan
    kinds: Sequence[Kind]
    seconds: float
    repeats: int
    cache: Path
    repository: Path


@dataclass(slots=True)
class Findings:
    """What a run found; grows while it goes on, so that an interrupted run keeps what it has.

    ``limits`` are rows/s of ONNX Runtime by model and arrangement, ``ceilings`` requests/s of the
    generator against a bare responder by connections, ``problems`` reasons by server.
    """

    machine: dict[str, str | int]
    started: str
    seconds: float
    repeats: int
    settings: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    ceilings: dict[int, float] = field(default_factory=dict)
    raw: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    complete: bool = False

    def limits(self) -> dict[str, float]:
        """Return the best arrangement's median rows/s for each model."""
        return {
            model: max(median(rates) for rates in found.values())
            for model, found in self.raw.items()
        }


def new_findings(order: Order) -> Findings:
    """Return empty findings that name the machine and the servers."""
    return Findings(
        machine=machine(),
        started=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=order.seconds,
        repeats=order.repeats,
        settings={kind.name: kind.settings for kind in order.kinds},
        versions={kind.name: kind.version for kind in order.kinds},
    )


def machine() -> dict[str, str | int]:
    """Return what a reader must know of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    pages = Path("/proc/meminfo").read_text().split("\n", 1)[0].split()
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": limit.cores(),
        "memory_gb": round(int(pages[1]) / 1e6),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "onnxruntime": limit.version(),
    }


def run(order: Order, findings: Findings, tell: Tell) -> None:
    """Measure all that is ordered into ``findings``.

    Servers that cannot be used become problems and the others go on.  Raises BenchmarkError if the
    generator cannot be built or a model is missing.
    """
    program = build(order.cache)
    closed, opened = list(closed_cases(order.plan)), list(open_cases(order.plan))
    names = list(dict.fromkeys(case.model for case in (*closed, *opened)))
    with TemporaryDirectory(prefix="benchmark-") as folder, ExitStack() as stack:
        work = Path(folder)
        chosen = subjects(names, order.cache, order.repository)
        findings.ceilings |= ceiling(program, work, order.seconds)
        live = list(_start(order.kinds, chosen, work, stack, findings, tell))
        bench = Bench(program, work, live, limit.cores(), WARM_UP, order.seconds)
        _Run(bench, {each.name: each for each in chosen}, findings, tell).all(
            order.repeats, closed, opened
        )
    findings.complete = True


def _start(
    kinds: Sequence[Kind],
    chosen: Sequence[Subject],
    work: Path,
    stack: ExitStack,
    findings: Findings,
    tell: Tell,
) -> Iterator[Server]:
    repository = copy_repository(chosen, work / "repository")
    files = {
        each.name: repository / each.name / each.folder.name / each.file.name for each in chosen
    }
    for kind in kinds:
        tell(f"starting {kind.name}")
        folder = work / kind.name
        folder.mkdir()
        site = Site(files, repository, folder, servers.free_port(), limit.cores())
        dialect = next(iter(kind.dialects.values()))
        with _problems(kind.name, findings, tell):
            first = [dialect.ask(each.name, each.collate([0]), each.outputs) for each in chosen]
            yield stack.enter_context(servers.running(kind, site, first))


@contextmanager
def _problems(server: str, findings: Findings, tell: Tell) -> Iterator[None]:
    """Note why a server cannot be used and go on."""
    try:
        yield
    except ServerUnusable as error:
        findings.problems[server] = str(error)
        tell(f"{server} is not measured: {error}")


@dataclass(frozen=True, slots=True)
class _Run:
    """The measuring itself, with everything up."""

    bench: Bench
    subjects: dict[str, Subject]
    findings: Findings
    tell: Tell

    def all(self, repeats: int, closed: Sequence[Case], opened: Sequence[Case]) -> None:
        """Check, then measure the closed loops, then the open ones at what those found."""
        self._prepare((*closed, *opened))
        for repeat in range(repeats):
            self._limits()
            for case in closed:
                self._round(case, repeat)
        for repeat in range(repeats):
            for case in opened:
                self._round(case, repeat)

    def _round(self, case: Case, repeat: int) -> None:
        """Measure every server once; who begins changes from repeat to repeat."""
        able = [server for server in self.bench.servers if self._able(server, case)]
        shift = repeat % max(len(able), 1)
        for server in (*able[shift:], *able[:shift]):
            rate = 0.0
            if case.factor:
                rate = case.factor * capacity(self.findings.windows, server.kind.name, case)
            if case.factor and not rate:
                continue
            with _problems(server.kind.name, self.findings, self.tell):
                window = self.bench.measure(server, case, repeat, rate=rate)
                self.findings.windows.append(window)
                self.tell(_line(window))

    def _able(self, server: Server, case: Case) -> bool:
        return (
            case.encoding in server.kind.dialects and server.kind.name not in self.findings.problems
        )

    def _limits(self) -> None:
        for name, subject in self.subjects.items():
            rates = self.findings.raw.setdefault(name, {})
            for arrangement, rate in limit.rates(subject, self.bench.cores, _LIMIT_SECONDS):
                rates.setdefault(arrangement.label, []).append(rate)
            self.tell(f"onnxruntime {name}: {max(each[-1] for each in rates.values()):,.0f} rows/s")

    def _prepare(self, cases: Sequence[Case]) -> None:
        """Write the requests of all cases and hold each server's answers against the expected."""
        for model, rows in dict.fromkeys((case.model, case.rows) for case in cases):
            subject = self.subjects[model]
            batches = subject.batches(rows)
            expected = answers(subject, batches)
            require_distinct(model, expected)
            wanted = {
                case.encoding: case for case in cases if (case.model, case.rows) == (model, rows)
            }
            for server in self.bench.servers:
                with _problems(server.kind.name, self.findings, self.tell):
                    for case in wanted.values():
                        self._prepare_server(server, case, batches, expected)

    def _prepare_server(
        self, server: Server, case: Case, batches: Sequence[Batch], expected: Sequence[Batch]
    ) -> None:
        if not self._able(server, case):
            return
        dialect = server.kind.dialects[case.encoding]
        outputs = self.subjects[case.model].outputs
        requests = [dialect.ask(case.model, batch, outputs) for batch in batches]
        self.bench.write(server, case, [each.wire(server.port) for each in requests])
        check(server, dialect, requests, expected)


def _line(window: Window) -> str:
    noise = f"  noisy ({window.foreign + window.stolen:.0%} others)" if window.noisy else ""
    errors = f"  {dict(window.errors)}" if window.errors else ""
    return (
        f"{window.case.label:44} {window.server:18} {window.rate:9,.0f}/s"
        f"  p50 {window.p50 * 1e3:7.2f} ms  p99 {window.p99 * 1e3:7.2f} ms"
        f"  {window.cpu_per_request * 1e3:6.3f} CPU ms{errors}{noise}"
    )
