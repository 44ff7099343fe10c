"""A repository that changes while two workers serve it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from tests.e2e.test_workers import Caller, pair, two_workers
from tests.support import models
from tests.support.servers import RealServer

QUICK = ("--poll-interval", 0.1)


def until(server: RealServer, says: Callable[[str], bool]) -> str:
    """Wait for a line of the log and return its message."""
    while not says(message := str(server.line()["message"])):
        pass
    return message


def publish(repository: Path, version: int) -> None:
    """Put a version in place in one step."""
    hidden = repository / "doubler" / f".{version}"
    models.write_doubler(hidden / "model.onnx")
    hidden.rename(repository / "doubler" / str(version))


def test_all_workers_follow_the_disk(tmp_path: Path) -> None:
    """A new version is swapped in, a bad one told once, a removed one drained."""
    (tmp_path / "doubler").mkdir()
    publish(tmp_path, 1)
    with two_workers(tmp_path, *QUICK) as (server, _), ExitStack() as stack:
        by_worker = pair(stack, server)
        publish(tmp_path, 2)
        drained = {until(server, lambda m: m.endswith("version 1: UNLOADED")) for _ in range(2)}
        assert drained == {"model doubler version 1: UNLOADED"}
        bad = tmp_path / "doubler" / ".3"
        bad.mkdir()
        (bad / "model.onnx").write_bytes(b"no model")
        bad.rename(tmp_path / "doubler" / "3")
        until(server, lambda m: m.startswith("model doubler version 3: ") and "not an ONNX" in m)
        for caller in by_worker.values():
            assert caller.double() == 200
            rows = caller.post("/v2/repository/index")[1]
            assert [(row["version"], row["state"]) for row in rows] == [
                ("2", "READY"),
                ("3", "UNAVAILABLE"),
            ]
        shutil.rmtree(tmp_path / "doubler" / "3")
        until(server, lambda m: m == "model doubler version 3: UNLOADED")
        assert [caller.double() for caller in by_worker.values()] == [200, 200]


def test_a_worker_that_starts_beside_a_bad_candidate_serves_what_the_others_do(
    tmp_path: Path,
) -> None:
    """What was proved is what it begins with, and not what failed elsewhere."""
    (tmp_path / "doubler").mkdir()
    publish(tmp_path, 1)
    with two_workers(tmp_path, *QUICK) as (server, pids):
        (tmp_path / "doubler" / "2").mkdir()
        (tmp_path / "doubler" / "2" / "model.onnx").write_bytes(b"no model")
        until(server, lambda m: m.startswith("model doubler version 2: "))
        os.kill(pids[1], signal.SIGKILL)
        server.logged("worker 1 has tried its models")
        with closing(Caller(server, "again")) as again:
            assert (again.worker, again.double()) == (1, 200)
