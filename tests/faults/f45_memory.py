"""F45: requests for absurd amounts of memory; each is refused, the process lives and answers."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from tests.faults.harness import Caller, cost, report, served, until
from tests.support.models import value, write_model
from tests.support.servers import RealServer

MODEL = "glutton"
LIMIT_MB = 1500


def write_glutton(path: Path) -> None:
    """Write y = x + 0 * (sum of as many numbers as x says)."""
    node = helper.make_node
    write_model(
        path,
        [
            node("ReduceMax", ["x"], ["most"], keepdims=0),
            node("Cast", ["most"], ["whole"], to=TensorProto.INT64),
            node("Max", ["whole", "one"], ["count"]),
            node("Unsqueeze", ["count", "axis"], ["shape"]),
            node("ConstantOfShape", ["shape"], ["many"]),
            node("ReduceSum", ["many"], ["nothing"], keepdims=0),
            node("Add", ["x", "nothing"], ["y"]),
        ],
        inputs=[value("x", TensorProto.FLOAT, "n", 1)],
        outputs=[value("y", TensorProto.FLOAT, "n", 1)],
        constants={"one": np.asarray(1), "axis": np.asarray([0])},
    )


async def run(server: RealServer, rounds: int) -> int:
    """Ask for 4 GB, 400 GB and 4 PB in turn, and for something normal after each."""
    caller, statuses, after = Caller(server.address), set[int](), set[int]()

    async def ready() -> bool:
        return (await caller.states()).get((MODEL, "1")) == "READY"

    await until(ready, 30)
    before = cost(server.process.pid)
    for _ in range(rounds):
        for size in (1e9, 1e11, 1e15):
            statuses.add((await caller.infer(MODEL, size))[0])
            after.add((await caller.infer(MODEL, 5.0))[0])
    deaths = [line for line in server.so_far() if "ended by" in str(line["message"])]
    now = cost(server.process.pid)
    caller.close()
    figures = {
        "absurd": 3 * rounds,
        "statuses": sorted(statuses),
        "next": sorted(after),
        "deaths": len(deaths),
        "resident_mb": [before.resident_mb, now.resident_mb],
    }
    goals = {
        "typed": statuses <= {503, 507},
        "next": after == {200},
        "alive": not deaths,
        "given back": now.resident_mb <= before.resident_mb + 100,
    }
    return report("F45", figures, goals)


def main() -> None:
    """Do it and exit 1 if a goal is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    limit = ("--memory-limit", LIMIT_MB << 20)
    with served("--workers", 1, *limit) as (server, repository):
        write_glutton(repository / f"{MODEL}.onnx")
        code = asyncio.run(run(server, given.rounds))
    raise SystemExit(code)


if __name__ == "__main__":
    main()
