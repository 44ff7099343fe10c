"""F42, F43, F48: what a guilty row, a model with other rows, and NaN do to those beside them.

Callers send their own rows all at once, so that they share runs, and each compares its answer with
that of its row alone, bit for bit.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.faults.harness import Caller, report, served, until
from tests.support import graphs
from tests.support.models import value, write_model

CALLERS = 32
WIDTH = 8


def write_lookup(path: Path) -> None:
    """Write rows of a table of 8, which refuses any other number."""
    table = np.random.default_rng(1).normal(size=(8, WIDTH)).astype(np.float32)
    write_model(
        path,
        [
            helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "whole"], ["y"]),
        ],
        inputs=[value("x", TensorProto.FLOAT, "n", 1)],
        outputs=[value("y", TensorProto.FLOAT, "n", 1, WIDTH)],
        constants={"table": table},
    )


def write_product(path: Path) -> None:
    """Write y = x * weights, large enough for the fast kernels."""
    weights = np.random.default_rng(2).normal(size=(1, 64)).astype(np.float32)
    write_model(
        path,
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        inputs=[value("x", TensorProto.FLOAT, "n", 1)],
        outputs=[value("y", TensorProto.FLOAT, "n", 64)],
        constants={"weights": weights},
    )


Asked = list[tuple[float, int, Any]]


async def at_once(callers: list[Caller], model: str, rows: list[float]) -> Asked:
    """Send each caller's row, all together; return rows, statuses and answers."""
    answers = await asyncio.gather(
        *(caller.infer(model, row) for caller, row in zip(callers, rows, strict=True))
    )
    return [(row, status, body) for row, (status, body) in zip(rows, answers, strict=True)]


def data_of(body: Any) -> Any:
    """Return the numbers of an answer."""
    return body["outputs"][0]["data"]


async def run(address: str, rounds: int) -> int:
    """Do the rounds and compare."""
    callers = [Caller(address) for _ in range(CALLERS)]
    names = ("lookup", "product", "centred", "dropping")

    async def ready() -> bool:
        states = await callers[0].states()
        return all(states.get((name, "1")) == "READY" for name in names)

    assert await until(ready, 60) < 60, await callers[0].states()
    alone = {
        row: data_of((await callers[0].infer("lookup", row))[1]) for row in map(float, range(8))
    }
    clean = {row: data_of((await callers[0].infer("product", row))[1]) for row in (1.0, 2.0)}
    counts = dict.fromkeys(("neighbours", "lost", "different", "guilty", "refused"), 0)
    for number in range(rounds):
        rows = [float(i % 8) for i in range(CALLERS)]
        rows[number % CALLERS] = 1e6
        for row, status, body in await at_once(callers, "lookup", rows):
            if row == 1e6:
                counts["guilty"] += 1
                counts["refused"] += status == 400
                continue
            counts["neighbours"] += 1
            counts["lost"] += status != 200
            counts["different"] += status == 200 and data_of(body) != alone[row]
        rows = [1.0 + i % 2 for i in range(CALLERS)]
        rows[number % CALLERS] = float("nan")
        for row, status, body in await at_once(callers, "product", rows):
            if row == row:  # noqa: PLR0124 - all but NaN
                counts["neighbours"] += 1
                counts["lost"] += status != 200
                counts["different"] += status == 200 and data_of(body) != clean[row]
    mixed = await _mixed(callers, rounds)
    for caller in callers:
        caller.close()
    goals = {
        "neighbours": not counts["lost"] and not counts["different"],
        "guilty": counts["guilty"] == counts["refused"],
        "rows that depend on each other": not mixed,
    }
    return report("F42 F43 F48", {"rounds": rounds, **counts, "mixed": mixed}, goals)


async def _mixed(callers: list[Caller], rounds: int) -> int:
    """Count answers that show another caller's rows, of models whose rows are not independent."""
    mixed = 0
    for number in range(rounds):
        rows = [float(number + i) for i in range(CALLERS)]
        # Minus its own mean a single row is nothing.
        asked = [ask_pair(c, "centred", row) for c, row in zip(callers, rows, strict=True)]
        for status, body in await asyncio.gather(*asked):
            mixed += status != 200 or data_of(body) != [0.0, 0.0]
        asked = [ask_pair(c, "dropping", row) for c, row in zip(callers, rows, strict=True)]
        for row, (status, body) in zip(rows, await asyncio.gather(*asked), strict=True):
            mixed += status == 200 and data_of(body) != [row, row]
    return mixed


async def ask_pair(caller: Caller, model: str, row: float) -> tuple[int, Any]:
    """Send one row of two numbers."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [row, row]}
    return await caller.ask("POST", f"/v2/models/{model}/infer", {"inputs": [tensor]})


def main() -> None:
    """Do it and exit 1 if a goal is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=100)
    given = options.parse_args()
    with served("--workers", 1, "--threads", 1, "--max-wait-ms", 5) as (server, repository):
        write_lookup(repository / "lookup.onnx")
        write_product(repository / "product.onnx")
        graphs.write_centred(repository / "centred.onnx")
        graphs.write_dropping(repository / "dropping.onnx")
        code = asyncio.run(run(server.address, given.rounds))
    raise SystemExit(code)


if __name__ == "__main__":
    main()
