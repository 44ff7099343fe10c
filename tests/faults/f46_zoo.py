"""F46: models made to harm, put in the place of one that serves.

Version 1 of a model answers all the while.  Each hostile kind becomes version 2 and its load is
asked for.  It must be refused with a code of its own within the deadline of an admission and a
second, or be loaded and do no harm.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.support import models
from tests.support.hostile import KINDS, SURVIVED
from tests.support.servers import RealServer, real_server

SECONDS = 31.0
_PATIENCE = 120.0
_RESTARTS = "onnxport_worker_restarts_total "
_BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}


@dataclass(slots=True)
class Lane:
    """One model whose version 1 serves while one kind after the other is its version 2."""

    name: str
    asked: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Figures:
    """What came of all kinds; changed by one thread a lane."""

    outcomes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)


@contextmanager
def asking(address: str, lane: Lane) -> Iterator[None]:
    """Ask version 1 every few milliseconds, and note what is not its answer."""
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=address, timeout=_PATIENCE) as client:
            while not ended.wait(0.02):
                lane.asked += 1
                try:
                    answer = client.post(f"/v2/models/{lane.name}/versions/1/infer", json=_BODY)
                    if answer.json()["outputs"][0]["data"] != [2, 4]:
                        lane.failed.append(answer.text[:200])
                except (httpx.HTTPError, KeyError, ValueError) as error:
                    lane.failed.append(repr(error))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def try_kind(client: httpx.Client, model: Path, kind: str, figures: Figures) -> None:
    """Put a kind in place, ask for its load, and take it away again."""
    folder = model / "2"
    folder.mkdir()
    KINDS[kind].write(folder)
    load = f"/v2/repository/models/{model.name}/load"
    began = time.monotonic()
    status = client.post(load).status_code
    figures.seconds[kind] = round(time.monotonic() - began, 2)
    code = code_of(client, model.name) if status != 200 else SURVIVED
    figures.outcomes[kind] = code or "survived"
    if code not in KINDS[kind].codes:
        figures.wrong[kind] = code or "survived"
    shutil.rmtree(folder)
    for left in model.parent.glob(f".*-{model.name}*"):
        left.unlink()
    if (status := client.post(load).status_code) != 200:
        figures.wrong[kind] = f"afterwards version 1 alone gave {status}"


def code_of(client: httpx.Client, name: str) -> str:
    """Return the code that the index shows for version 2."""
    rows: list[dict[str, Any]] = client.post("/v2/repository/index").json()
    (row,) = (row for row in rows if row["name"] == name and row.get("version") == "2")
    return str(row.get("code", "none is shown"))


def run_lane(address: str, model: Path, kinds: Queue[str], figures: Figures, lane: Lane) -> None:
    """Try kinds until none is left."""
    with asking(address, lane), httpx.Client(base_url=address, timeout=_PATIENCE) as client:
        while True:
            try:
                kind = kinds.get_nowait()
            except Empty:
                return
            try_kind(client, model, kind, figures)


def resident_mb(server: RealServer) -> float:
    """Return the memory of the supervisor, which must not grow with what it has refused."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def slowest_of(kinds: AbstractSet[str], figures: Figures) -> dict[str, float]:
    """Return the kind among these that took longest, with its seconds; {} of none."""
    found = sorted((figures.seconds[kind], kind) for kind in kinds)
    return {found[-1][1]: found[-1][0]} if found else {}


def measure(kinds: Sequence[str], lanes: int) -> dict[str, Any]:
    """Run the zoo against a server and return the figures."""
    queue: Queue[str] = Queue()
    for kind in kinds:
        queue.put(kind)
    figures = Figures()
    with TemporaryDirectory() as folder:
        repositories = [Path(folder) / "r" / f"m{lane}" for lane in range(lanes)]
        for model in repositories:
            models.write_doubler(model / "1" / "model.onnx")
            (model / "serving.toml").write_text('versions = "all"')
        arguments = ("--model-control", "explicit", "--load-model", "*", "--no-access-log")
        with real_server(Path(folder) / "r", *arguments) as server:
            server.logged("ready")
            before = resident_mb(server)
            tasks = []
            all_lanes = [Lane(model.name) for model in repositories]
            for model, lane in zip(repositories, all_lanes, strict=True):
                arguments_of = (server.address, model, queue, figures, lane)
                tasks.append(threading.Thread(target=run_lane, args=arguments_of))
                tasks[-1].start()
            for task in tasks:
                task.join()
            metrics = httpx.get(f"{server.address}/metrics").text
            grown = resident_mb(server) - before
    restarts = next(m for m in metrics.splitlines() if m.startswith(_RESTARTS))
    survived = {kind for kind, code in figures.outcomes.items() if code == "survived"}
    return {
        "kinds": len(figures.outcomes),
        "refused": sum(code != "survived" for code in figures.outcomes.values()),
        "survived": sorted(survived),
        "wrong": figures.wrong,
        "slowest_refusal": slowest_of(figures.seconds.keys() - survived, figures),
        "slowest_load": slowest_of(survived, figures),
        "requests_meanwhile": sum(lane.asked for lane in all_lanes),
        "requests_failed": [text for lane in all_lanes for text in lane.failed][:5],
        "workers_lost": int(float(restarts.split()[-1])),
        "supervisor_grew_mb": round(grown, 1),
        "codes": {kind: figures.outcomes[kind] for kind in sorted(figures.outcomes)},
    }


def main() -> None:
    """Print the figures on one line; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help="all of them by default")
    parser.add_argument("--lanes", type=int, default=2, help="models that are attacked at once")
    asked = parser.parse_args()
    figures = measure(asked.kinds, asked.lanes)
    seconds = max(figures["slowest_refusal"].values(), default=0.0)
    goals = {
        "every kind ends as it may": not figures["wrong"],
        f"refused within {SECONDS:g} s": seconds <= SECONDS,
        "version 1 answers all the while": not figures["requests_failed"],
        "no worker is lost": figures["workers_lost"] == 0,
    }
    missed = [goal for goal, met in goals.items() if not met]
    sys.stdout.write(
        json.dumps({"fault": "F46", "passed": not missed, "missed": missed, **figures})
    )
    sys.stdout.write("\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
