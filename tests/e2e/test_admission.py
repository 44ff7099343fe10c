"""What a server has proved before it serves, and what it serves whatever becomes of the files."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx

from tests.support import models
from tests.support.servers import PATIENCE, RealServer, real_server

ROW = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}


def test_how_each_version_was_proved(client: httpx.Client) -> None:
    """Passed, skipped or refused with a code, over the same road, and in model-info and index."""

    def verification(model: str) -> dict[str, object]:
        found = client.get(f"/v1/models/{model}/versions/1/verification").json()
        return {key: found[key] for key in ("name", "version", "status", "state")} | {
            "code": found.get("code", "")
        }

    head = {"version": 1, "code": ""}
    ready = {**head, "state": "READY"}
    assert verification("pictures") == {**ready, "name": "pictures", "status": "passed"}
    assert verification("doubler") == {**ready, "name": "doubler", "status": "skipped"}
    failed = {**head, "state": "FAILED", "status": "failed"}
    assert verification("liar") == {**failed, "name": "liar", "code": "contract_mismatch"}
    assert verification("broken") == {**failed, "name": "broken", "code": "not_onnx"}
    assert client.get("/v1/models/liar/info").json()["code"] == "contract_mismatch"
    rows = client.post("/v2/repository/index").json()
    assert {row["name"]: row.get("code") for row in rows}["broken"] == "not_onnx"
    assert client.get("/v1/models/nobody/versions/1/verification").status_code == 404


def kill_a_worker(server: RealServer) -> None:
    """Kill a worker, and wait until another one has its models."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)
    server.logged("worker 1 has tried its models")


def test_a_worker_that_starts_again_serves_what_was_proved(tmp_path: Path) -> None:
    """Others have overwritten the files meanwhile; no answer changes until they are loaded."""
    model = models.write_doubler(tmp_path / "m" / "1" / "model.onnx")
    arguments = ("--workers", 1, "--model-control", "none")
    with real_server(tmp_path, *arguments) as server:
        server.logged("ready")
        models.write_divider(model)
        kill_a_worker(server)
        with httpx.Client(base_url=server.address, timeout=PATIENCE) as client:
            answer = client.post("/v2/models/m/infer", json=ROW).json()
            assert answer["outputs"][0]["data"] == [2, 4]
        model.write_bytes(b"")
        kill_a_worker(server)
        with httpx.Client(base_url=server.address, timeout=PATIENCE) as client:
            assert client.post("/v2/models/m/infer", json=ROW).status_code == 200
