"""Models and workers that do not come back: who waited hears it, and others take their place."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_workers import Caller, pair, two_workers
from tests.support import graphs, models
from tests.support.servers import PATIENCE, real_server


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with a quick model and one with a node that can take minutes."""
    models.write_doubler(tmp_path / "doubler.onnx")
    graphs.write_toil(tmp_path / "toil.onnx")
    return tmp_path


def toil(address: str, size: float) -> httpx.Response:
    """Ask for a run that takes far longer than the caller waits."""
    row = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [size]}
    return httpx.post(
        f"{address}/v2/models/toil/infer",
        json={"inputs": [row], "parameters": {"timeout": 300_000}},
        timeout=PATIENCE,
    )


def test_a_run_that_does_not_come_back(repository: Path) -> None:
    """Its caller hears 504 in time, nobody else notices, and its worker is replaced."""
    with two_workers(repository) as (server, pids), ExitStack() as stack:
        by_worker = pair(stack, server)
        answer = toil(server.address, 1e6)
        assert answer.status_code == 504
        while "makes room" not in (message := str(server.line()["message"])):
            pass
        sick = int(message.split()[1])
        assert "model toil version 1 does not come back" in message
        assert by_worker[3 - sick].double() == 200
        server.logged(f"worker {sick} ended with exit code 0")
        assert server.logged(f"worker {sick} takes connections")["pid"] != pids[sick]
        server.logged(f"worker {sick} has tried its models")
        again = stack.enter_context(closing(Caller(server, "again")))
        assert (again.worker, again.double()) == (sick, 200)


def test_what_a_worker_still_has_is_answered_beside_a_run_that_hangs(repository: Path) -> None:
    """Another thread takes the place of the one that is lost, so a single worker goes on, too."""
    with real_server(repository, "--workers", 1, "--threads", 1) as server:
        server.logged("ready")
        with httpx.Client(base_url=server.address, timeout=PATIENCE) as client:
            assert toil(server.address, 1e6).status_code == 504
            row = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}
            answer = client.post("/v2/models/toil/infer", json={"inputs": [row]})
            assert answer.status_code == 200
        server.logged("worker 1 has tried its models")


def test_a_model_that_hangs_again_and_again_is_quarantined(repository: Path) -> None:
    """As one that ends its process; the others are served."""
    with real_server(repository, "--workers", 1, "--quarantine-deaths", 1) as server:
        server.logged("ready")
        assert toil(server.address, 1e6).status_code == 504
        server.logged("worker 1 has tried its models")
        with httpx.Client(base_url=server.address, timeout=PATIENCE) as client:
            assert "quarantined" in client.get("/v2/models/toil/ready").json()["error"]
            assert client.get("/v2/models/doubler/ready").status_code == 200


def test_a_worker_whose_loop_stands_still(repository: Path) -> None:
    """It is ended and replaced, whatever holds it."""
    with two_workers(repository, "--hang-timeout", 1) as (server, pids), ExitStack() as stack:
        by_worker = pair(stack, server)
        os.kill(pids[1], signal.SIGSTOP)
        assert server.logged("worker 1 has shown no sign of life for 1 s and is ended")
        assert by_worker[2].double() == 200
        assert server.logged("worker 1 takes connections")["pid"] != pids[1]
