"""F44: runs that hang, in a loop of the graph and in one node, beside another model under load."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from tests.faults.harness import Caller, Load, pace, report, served, until
from tests.support import graphs, models
from tests.support.servers import RealServer

DEADLINE_MS = 500
# The deadline and a tenth of a second: what a late caller may wait beyond it.
LATE_BY = 0.1


async def ask_quick(caller: Caller) -> None:
    """Ask the model that does not hang."""
    row = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    status, body = await caller.ask("POST", "/v2/models/doubler/infer", {"inputs": [row]})
    assert status == 200, f"{status}: {body}"


async def hang(address: str, model: str, row: dict[str, object]) -> tuple[int, float]:
    """Send what hangs; return the status and how long the answer took."""
    caller, began = Caller(address), time.monotonic()
    body: dict[str, object] = {"inputs": [{"name": "x", "datatype": "FP32", **row}]}
    body |= {"parameters": {"timeout": DEADLINE_MS * 1000}}
    status, _ = await caller.ask("POST", f"/v2/models/{model}/infer", body)
    caller.close()
    return status, time.monotonic() - began


async def load_beside(address: str, work: asyncio.Future[None]) -> Load:
    """Ask the other model while some work is done."""
    over = asyncio.Event()
    work.add_done_callback(lambda _: over.set())
    return await pace(address, ask_quick, callers=4, rate=20, until=over)


async def run(server: RealServer, rounds: int) -> int:
    """Measure what is normal, then hang in both ways, and see who replaces whom."""
    address, answers = server.address, list[tuple[int, float]]()
    caller = Caller(address)

    async def ready() -> bool:
        states = await caller.states()
        return len(states) == 3 and set(states.values()) == {"READY"}

    assert await until(ready, 60) < 60, await caller.states()
    normal = await load_beside(address, asyncio.ensure_future(asyncio.sleep(5)))

    async def loops() -> None:
        for _ in range(rounds):
            answers.append(await hang(address, "endless", {"shape": [1, 2], "data": [1, 2]}))

    async def nodes() -> None:
        answers.append(await hang(address, "toil", {"shape": [1, 1], "data": [1e6]}))
        await asyncio.sleep(8)

    beside_loops = await load_beside(address, asyncio.ensure_future(loops()))
    beside_nodes = await load_beside(address, asyncio.ensure_future(nodes()))
    caller.close()
    return _report(server, answers, (normal, beside_loops, beside_nodes))


def _report(
    server: RealServer, answers: list[tuple[int, float]], loads: tuple[Load, Load, Load]
) -> int:
    messages = [str(line["message"]) for line in server.so_far()]
    replaced = sum("makes room for another one" in message for message in messages)
    normal, loops, nodes = loads
    late = max(seconds for _, seconds in answers) - DEADLINE_MS / 1e3
    figures = {
        "hung": len(answers),
        "statuses": sorted({status for status, _ in answers}),
        "late_ms_worst": round(late * 1e3),
        "p99_ms": round(normal.p99 * 1e3, 1),
        "p99_ms_beside_loops": round(loops.p99 * 1e3, 1),
        "p99_ms_beside_a_node": round(nodes.p99 * 1e3, 1),
        "failed_beside": len(loops.failures) + len(nodes.failures),
        "first": [*loops.failures, *nodes.failures][:3],
        "workers_replaced": replaced,
    }
    goals = {
        "statuses": {status for status, _ in answers} == {504},
        "in time": late <= LATE_BY,
        "nobody else": not loops.failures and not nodes.failures,
        "replaced": replaced == 1,
    }
    return report("F44", figures, goals)


def main() -> None:
    """Do it and exit 1 if a goal is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=20)
    given = options.parse_args()
    # A loop without an end cannot be proved by running it.
    with served("--workers", 2, "--threads", 2, "--verify", "off") as (server, repository):
        _fill(repository)
        code = asyncio.run(run(server, given.rounds))
    raise SystemExit(code)


def _fill(repository: Path) -> None:
    models.write_doubler(repository / "doubler.onnx")
    graphs.write_toil(repository / "toil.onnx")
    graphs.write_endless(repository / "endless.onnx")


if __name__ == "__main__":
    main()
