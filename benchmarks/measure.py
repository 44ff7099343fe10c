"""One window: the generator presses one server while the kernel's counters are read."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import proc
from benchmarks.cases import LARGE, Case
from benchmarks.errors import BenchmarkError
from benchmarks.load import Load, Outcome, percentile, started, write_requests
from benchmarks.servers import HOST, Kind, Server

NOISY_SHARE = 0.05
_HEALTH_RATE = 50.0
_WORKING_SHARE = 0.1
_LARGE_SECONDS = 5.0
_SEED = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """CPU seconds so far: of the machine, of all that is ours, and of each process of a server.

    ``servers`` goes by the pid that leads the server, then by that of each of its processes.
    """

    machine: proc.MachineTimes
    servers: Mapping[int, Mapping[int, float]]
    ours: float

    def used(self, server: int) -> float:
        """Return what all processes of a server have used."""
        return sum(self.servers[server].values())


@dataclass(frozen=True, slots=True)
class Window:
    """What one window showed; times in seconds (NaN without an answer), memory in bytes (PSS).

    ``idle_cpu`` is the CPU that the servers which were not measured used, in cores by server;
    ``foreign`` and ``stolen`` are the shares of the machine that other processes of it and other
    guests of its host took. ``offered`` are the requests/s that were due in an open loop, 0 in a
    closed one; ``health_p99`` is NaN where the health route was not asked. ``busiest`` is what
    the busiest of the server's working processes used, over their mean.
    """

    server: str
    case: Case
    repeat: int
    rate: float
    p50: float
    p99: float
    cpu_per_request: float
    memory: int
    generator_cpu: float
    foreign: float
    stolen: float
    offered: float
    busiest: float = 1.0
    health_p99: float = math.nan
    errors: Mapping[str, int] = field(default_factory=dict)
    idle_cpu: Mapping[str, float] = field(default_factory=dict)

    @property
    def noisy(self) -> bool:
        """Whether others took more than the stated share of the machine."""
        return self.foreign + self.stolen > NOISY_SHARE


@dataclass(frozen=True, slots=True)
class Bench:
    """What stays the same over all windows of a run."""

    program: Path
    work: Path
    servers: Sequence[Server]
    cores: int
    warm_up: float
    seconds: float

    def measure(self, server: Server, case: Case, repeat: int, *, rate: float = 0.0) -> Window:
        """Press ``server`` as ``case`` says, at ``rate`` requests/s in an open loop."""
        load = Load(
            case.connections,
            self.warm_up,
            self.length(case),
            rate,
            seed=_SEED + repeat,
            cores=_other_cores(server.kind, self.cores),
        )
        snapshots: list[Snapshot] = []
        pids = [each.pid for each in self.servers]
        requests = self.requests_file(server, case)
        with ExitStack() as stack:
            finish = stack.enter_context(started(self.program, server.port, requests, load))
            health = self._ask_health(server, case, stack) if case.health else None
            outcome = finish(lambda: snapshots.append(snapshot(pids)))
            asked = health() if health else None
        first, last = snapshots
        memory = proc.resident_bytes(server.pid)
        window = _window(outcome, first, last, server, case, repeat, memory, self)
        return window if asked is None else _with_health(window, asked)

    def length(self, case: Case) -> float:
        """Return the seconds of a window; one request of the large model takes long by itself."""
        return max(self.seconds, _LARGE_SECONDS) if case.model == LARGE else self.seconds

    def requests_file(self, server: Server, case: Case) -> Path:
        """Return where the requests of a case lie; `write` puts them there."""
        return self.work / f"{server.kind.name}-{case.model}-{case.encoding}-{case.rows}.requests"

    def write(self, server: Server, case: Case, requests: Sequence[bytes]) -> None:
        """Keep the requests of a case on disk until they are sent."""
        write_requests(requests, self.requests_file(server, case))

    def _ask_health(self, server: Server, case: Case, stack: ExitStack) -> Callable[[], Outcome]:
        """Ask the health route all the time on one connection; return how to wait for the end."""
        text = f"GET {server.kind.health} HTTP/1.1\r\nHost: {HOST}:{server.port}\r\n\r\n"
        file = write_requests([text.encode()], self.work / f"{server.kind.name}-health.requests")
        load = Load(1, self.warm_up, self.length(case), _HEALTH_RATE)
        finish = stack.enter_context(started(self.program, server.port, file, load))
        return lambda: finish(lambda: None)


def snapshot(pids: Sequence[int]) -> Snapshot:
    """Read the counters of the servers that these processes lead, and of everything of ours."""
    everyone = proc.processes()
    servers = {
        pid: {each.pid: each.cpu_seconds for each in proc.family(everyone, pid)} for pid in pids
    }
    ours = sum(each.cpu_seconds for each in proc.family(everyone, os.getpid()))
    return Snapshot(proc.machine(), servers, ours)


def unevenness(used: Sequence[float]) -> float:
    """Return the largest over the mean of those above a tenth of the sum; 1 without any."""
    working = [each for each in used if each > _WORKING_SHARE * sum(used)]
    return max(working) * len(working) / sum(working) if working else 1.0


def _other_cores(kind: Kind, cores: int) -> tuple[int, ...]:
    """Return the cores that are left to the generator, or none when the server may use all."""
    if not kind.cores:
        return ()
    left = tuple(core for core in range(cores) if core not in kind.cores)
    if not left:
        raise BenchmarkError(f"'{kind.name}' needs a second core for the load generator")
    return left


def _window(
    outcome: Outcome,
    first: Snapshot,
    last: Snapshot,
    server: Server,
    case: Case,
    repeat: int,
    memory: int,
    bench: Bench,
) -> Window:
    spent = {pid: last.used(pid) - first.used(pid) for pid in last.servers}
    before, after = first.servers[server.pid], last.servers[server.pid]
    whole = outcome.seconds * bench.cores
    busy = last.machine.busy - first.machine.busy
    return Window(
        server=server.kind.name,
        case=case,
        repeat=repeat,
        rate=outcome.good / outcome.seconds,
        p50=percentile(outcome.latencies, 0.5),
        p99=percentile(outcome.latencies, 0.99),
        cpu_per_request=spent[server.pid] / outcome.good if outcome.good else math.nan,
        memory=memory,
        generator_cpu=outcome.cpu_seconds / outcome.seconds,
        foreign=max(busy - (last.ours - first.ours), 0) / whole,
        stolen=(last.machine.stolen - first.machine.stolen) / whole,
        offered=outcome.offered / outcome.seconds,
        busiest=unevenness([used - before.get(pid, 0.0) for pid, used in after.items()]),
        errors=outcome.errors,
        idle_cpu={
            each.kind.name: spent[each.pid] / outcome.seconds
            for each in bench.servers
            if each.pid != server.pid
        },
    )


def _with_health(window: Window, health: Outcome) -> Window:
    return replace(window, health_p99=percentile(health.latencies, 0.99))
