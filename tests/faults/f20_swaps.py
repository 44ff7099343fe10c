"""F20: swaps under load, and a history that one server must be able to explain.

Version k of the model adds k and says k.  One controller publishes versions and loads them, others
load again at random; callers ask all the while.  ``--mode poll`` only publishes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from tests.faults.harness import Caller, Cost, Load, cost, pace, report, served, until
from tests.faults.history import Seen, Swap, verdicts
from tests.support.models import value, write_model
from tests.support.servers import RealServer

MODEL = "adder"
# Weights that do nothing but weigh, so that memory that is not given back is seen.
WEIGHT_MB = 4
KEPT = 3
WORKERS = 2
# What each worker may hold more of in the end; a version that stayed would be 4 MB.
GROWTH_MB = 10


def write_version(path: Path, version: int) -> None:
    """Write y = x + version, k = version and some weight."""
    weight = np.zeros((1, WEIGHT_MB << 18), np.float32)
    node = helper.make_node
    write_model(
        path,
        [
            node("ReduceSum", ["weight"], ["nothing"], keepdims=0),
            node("Add", ["x", "number"], ["sum"]),
            node("Add", ["sum", "nothing"], ["y"]),
            node("Mul", ["x", "zero"], ["none"]),
            node("Add", ["none", "number"], ["k"]),
        ],
        inputs=[value("x", TensorProto.FLOAT, "n", 1)],
        outputs=[value(name, TensorProto.FLOAT, "n", 1) for name in ("y", "k")],
        constants={
            "weight": weight,
            "number": np.asarray(version, np.float32),
            "zero": np.asarray(0, np.float32),
        },
    )


def publish(repository: Path, version: int) -> float:
    """Put a version in place in one step, remove old ones, and return when it appeared."""
    hidden = repository / MODEL / f".{version}"
    write_version(hidden / "model.onnx", version)
    now = time.monotonic()
    hidden.rename(repository / MODEL / str(version))
    old = repository / MODEL / str(version - KEPT)
    if old.exists():
        shutil.rmtree(old)
    return now


@dataclass(slots=True)
class Trial:
    """One run of swaps and everything that was seen."""

    address: str
    repository: Path
    poll: bool
    swaps: list[Swap] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def ask(self, caller: Caller) -> None:
        """Ask two rows and note what the answer claims."""
        sent, rows = time.monotonic(), (float(random.randrange(1000)), -1.0)
        try:
            status, body = await caller.infer(MODEL, *rows)
        except OSError:
            self.seen.append(Seen(sent, time.monotonic(), frozenset()))
            raise
        now = time.monotonic()
        if status != 200:
            self.seen.append(Seen(sent, now, frozenset()))
            raise AssertionError(f"{status}: {body}")
        outputs = {one["name"]: one["data"] for one in body["outputs"]}
        claims = frozenset({int(body["model_version"]), *map(int, outputs["k"])})
        right = all(
            y == row + k for y, row, k in zip(outputs["y"], rows, outputs["k"], strict=True)
        )
        self.seen.append(Seen(sent, now, claims, right))

    async def swap(self, caller: Caller, version: int) -> None:
        """Publish a version, have it loaded, and note when it was there for everybody."""
        published = publish(self.repository, version)
        if self.poll:
            await until(lambda: self._is_alone(caller, version), 60)
        else:
            status, body = await caller.ask("POST", f"/v2/repository/models/{MODEL}/load", {})
            if status != 200:
                self.refused.append(f"{version}: {body}")
                return
        done = time.monotonic()
        self.swaps.append(Swap(version, published, done))
        self.seconds.append(done - published)

    async def _is_alone(self, caller: Caller, version: int) -> bool:
        """Whether a version is ready in all workers and no older one is."""
        states = await caller.states()
        ready = {int(number) for (_, number), state in states.items() if state == "READY"}
        return ready == {version}

    async def disturb(self, until_: asyncio.Event) -> None:
        """Load again at random, as another controller would."""
        caller, dice = Caller(self.address), random.Random(7)
        while not until_.is_set():
            await asyncio.sleep(dice.uniform(0.2, 2.0))
            await caller.ask("POST", f"/v2/repository/models/{MODEL}/load", {})
        caller.close()


async def quiet(trial: Trial, seconds: float) -> Load:
    """Ask without swaps."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    return await pace(trial.address, trial.ask, callers=8, rate=10, until=over)


async def loaded(trial: Trial, first: int, count: int, controllers: int) -> Load:
    """Ask while versions are swapped."""
    over = asyncio.Event()
    asking = asyncio.create_task(pace(trial.address, trial.ask, callers=8, rate=10, until=over))
    others = [asyncio.create_task(trial.disturb(over)) for _ in range(controllers - 1)]
    caller = Caller(trial.address)
    for version in range(first, first + count):
        await trial.swap(caller, version)
        if not trial.poll:
            await asyncio.sleep(0.02)
    over.set()
    await asyncio.gather(*others)
    caller.close()
    return await asking


async def run(trial: Trial, server: RealServer, swaps: int, controllers: int) -> int:
    """Warm up, measure what is normal, swap, and measure again."""
    caller, pid = Caller(trial.address), server.process.pid
    await trial.swap(caller, 1)
    # With everybody, so that threads which are started when they are needed have been.
    await loaded(trial, 2, 10, controllers)
    await quiet(trial, 2)
    before, normal = cost(pid), await quiet(trial, 10)
    began = time.monotonic()
    during = await loaded(trial, 12, swaps, controllers)
    seconds = time.monotonic() - began
    await quiet(trial, 2)
    after = cost(pid)
    trial.errors = [line["message"] for line in server.so_far() if line["level"] == "error"]
    counts = verdicts(trial.swaps, trial.seen)
    caller.close()
    return _report(trial, counts, (before, after), (normal, during), swaps, seconds)


def _report(
    trial: Trial,
    counts: object,
    costs: tuple[Cost, Cost],
    loads: tuple[Load, Load],
    swaps: int,
    seconds: float,
) -> int:
    assert isinstance(counts, dict)
    (before, after), (normal, during) = costs, loads
    figures = {
        "mode": "poll" if trial.poll else "explicit",
        "swaps": swaps,
        "seconds": round(seconds, 1),
        "swap_p50_ms": round(sorted(trial.seconds)[len(trial.seconds) // 2] * 1e3),
        **counts,
        "refused": len(trial.refused),
        "first": [*trial.refused, *normal.failures, *during.failures, *trial.errors][:5],
        "p99_ms": round(normal.p99 * 1e3, 1),
        "p99_ms_swapping": round(during.p99 * 1e3, 1),
        "before": asdict(before),
        "after": asdict(after),
    }
    goals = {
        **{name: not counts[name] for name in ("failed", "wrong", "mixed", "early", "stale")},
        "refused": not trial.refused,
        "memory": after.resident_mb <= before.resident_mb + WORKERS * GROWTH_MB,
        "descriptors": after.descriptors <= before.descriptors,
        # Those that read the disk are started when they are needed, up to six a process.
        "threads": after.threads <= before.threads + 4,
    }
    return report("F20", figures, goals)


def main() -> None:
    """Do it and exit 1 if a goal is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--swaps", type=int, default=1000)
    options.add_argument("--controllers", type=int, default=8)
    options.add_argument("--mode", choices=("explicit", "poll"), default="explicit")
    given = options.parse_args()
    poll = given.mode == "poll"
    more = ("--poll-interval", 0.2) if poll else ("--model-control", "explicit")
    with served("--workers", WORKERS, *more) as (server, repository):
        (repository / MODEL).mkdir()
        trial = Trial(server.address, repository, poll)
        code = asyncio.run(run(trial, server, given.swaps, 1 if poll else given.controllers))
    raise SystemExit(code)


if __name__ == "__main__":
    main()
