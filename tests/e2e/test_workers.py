"""A server of several processes: evenness, one voice, deaths, quarantine, and its end."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import graphs, models
from tests.support.servers import PATIENCE, RealServer, real_server

# A worker that a test holds up is not to be replaced meanwhile.
PATIENT = ("--hang-timeout", 600)
EXPLICIT = ("--model-control", "explicit", "--load-model", "doubler")


class Caller:
    """One kept connection, and the number of the worker that it leads to."""

    def __init__(self, server: RealServer, name: str) -> None:
        """Connect, and find the worker by the line that it writes."""
        host, port = server.address.removeprefix("http://").split(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        assert self.get("/v2", {"x-request-id": name})[0] == 200
        while (line := server.logged("request")).get("request_id") != name:
            pass
        assert line["client"] == "127.0.0.1"
        self.worker = int(line["worker"])

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Return the status and the body."""
        return self._ask("GET", path, None, headers or {})

    def post(self, path: str, body: object = None) -> tuple[int, Any]:
        """Return the status and the parsed body."""
        status, text = self._ask("POST", path, None if body is None else json.dumps(body), {})
        return status, json.loads(text)

    def _ask(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str]
    ) -> tuple[int, str]:
        # A connection that was lost stays lost: the caller must see it.
        self._connection.auto_open = 0 if self._connection.sock else 1
        self._connection.request(method, path, body, dict(headers))
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode()

    def double(self) -> int:
        """Have a number doubled and return the status."""
        row = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
        return self.post("/v2/models/doubler/infer", {"inputs": [row]})[0]

    def counted(self, name: str) -> float:
        """Return the sum of a metric over its series."""
        lines = self.get("/metrics")[1].splitlines()
        values = [
            line.rsplit(" ", 1)[1] for line in lines if line.startswith((f"{name}{{", f"{name} "))
        ]
        return sum(map(float, values))

    def states(self) -> dict[str, str]:
        """Return the state of each model in the index."""
        rows = self.post("/v2/repository/index")[1]
        return {row["name"]: row.get("state", "") for row in rows}


@contextmanager
def two_workers(folder: Path, *arguments: object) -> Iterator[tuple[RealServer, dict[int, int]]]:
    """Start a server with two workers; yield it when it is ready, with their process ids."""
    with real_server(folder, "--workers", 2, *arguments) as server:
        pids: dict[int, int] = {}
        while (line := server.line())["message"] != "ready":
            if line["message"].endswith("takes connections"):
                pids[int(line["message"].split()[1])] = int(line["pid"])
        assert sorted(pids) == [1, 2]
        yield server, pids


def callers(stack: ExitStack, server: RealServer, count: int) -> list[Caller]:
    """Return callers that stay connected."""
    made = [Caller(server, f"caller-{count}-{number}") for number in range(count)]
    for caller in made:
        stack.enter_context(closing(caller))
    return made


def pair(stack: ExitStack, server: RealServer) -> dict[int, Caller]:
    """Return a caller of each worker."""
    found = {caller.worker: caller for caller in callers(stack, server, 2)}
    assert sorted(found) == [1, 2]
    return found


@pytest.fixture
def doubler(tmp_path: Path) -> Path:
    """Return a repository with one model."""
    models.write_doubler(tmp_path / "doubler.onnx")
    return tmp_path


def test_connections_are_shared_out_evenly(doubler: Path) -> None:
    """With 8, 32 and 64 of them no worker has more than its share, after others have gone, too."""
    with two_workers(doubler) as (server, _):
        for count in (8, 32, 64):
            with ExitStack() as stack:
                held = Counter(caller.worker for caller in callers(stack, server, count))
                assert max(held.values()) <= 1.3 * count / 2, held


def test_callers_that_come_one_by_one_are_shared_out_too(doubler: Path) -> None:
    """A connection a call is no reason to leave a core idle."""
    with two_workers(doubler) as (server, _):
        held: Counter[int] = Counter()
        for number in range(10):
            with closing(Caller(server, f"single-{number}")) as caller:
                held[caller.worker] += 1
        assert max(held.values()) <= 6


def test_a_worker_that_is_killed(doubler: Path) -> None:
    """The others go on, no counter goes back, and it comes again."""
    with two_workers(doubler) as (server, pids), ExitStack() as stack:
        by_worker = pair(stack, server)
        for caller in by_worker.values():
            assert [caller.double() for _ in range(5)] == [200] * 5
        other = by_worker[2]
        assert other.counted("onnxport_requests_total") == 10
        assert other.counted("onnxport_workers") == 2
        os.kill(pids[1], signal.SIGKILL)
        assert other.double() == 200
        assert server.logged("worker 1 ended by SIGKILL")["level"] == "error"
        assert other.counted("onnxport_requests_total") == 11
        assert other.counted("nv_inference_request_success") == 11
        assert other.counted("onnxport_workers") == 1
        assert other.get("/v2/health/ready")[0] == 200
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            by_worker[1].double()
        with closing(Caller(server, "meanwhile")) as meanwhile:
            assert meanwhile.worker == 2
        assert server.logged("worker 1 takes connections")["pid"] != pids[1]
        while server.line()["message"] != "worker 1 has tried its models":
            assert other.get("/v2/health/ready")[0] == 200
        again = stack.enter_context(closing(Caller(server, "again")))
        assert again.double() == 200
        assert again.counted("onnxport_requests_total") == 12
        assert again.counted("onnxport_worker_restarts_total") == 1
        stats = json.loads(again.get("/v2/models/doubler/stats")[1])["model_stats"][0]
        assert stats["inference_stats"]["success"]["count"] == 12


def test_a_connection_that_a_dead_worker_has_not_taken(doubler: Path) -> None:
    """Another one takes it, and the caller does not notice."""
    with two_workers(doubler, *PATIENT) as (server, pids), ExitStack() as stack:
        host, port = server.address.removeprefix("http://").split(":")
        pair(stack, server)
        os.kill(pids[1], signal.SIGSTOP)
        waiting = [socket.create_connection((host, int(port)), PATIENCE) for _ in range(4)]
        for caller in waiting:
            stack.enter_context(caller)
            caller.sendall(b"GET /v2 HTTP/1.1\r\nHost: e2e\r\n\r\n")
        # Those of the other worker are answered, so all have been handed out.
        answered = select.select(waiting, [], [], PATIENCE)[0]
        while len(answered) < 2:
            answered = select.select(waiting, [], [], PATIENCE)[0]
        assert len(answered) == 2
        os.kill(pids[1], signal.SIGKILL)
        for caller in waiting:
            assert caller.recv(1024).startswith(b"HTTP/1.1 200 ")


def test_a_worker_that_hangs_holds_up_no_figures(doubler: Path) -> None:
    """Its last ones are taken, so that nothing that was counted is missing."""
    with two_workers(doubler, *PATIENT) as (server, pids), ExitStack() as stack:
        by_worker = pair(stack, server)
        for caller in by_worker.values():
            assert caller.double() == 200
        assert by_worker[2].counted("onnxport_requests_total") == 2
        os.kill(pids[1], signal.SIGSTOP)
        try:
            assert by_worker[2].double() == 200
            assert by_worker[2].counted("onnxport_requests_total") == 3
        finally:
            os.kill(pids[1], signal.SIGCONT)
        assert by_worker[1].double() == 200
        assert by_worker[1].counted("onnxport_requests_total") == 4


def test_a_unix_socket_instead_of_a_port(doubler: Path, tmp_path: Path) -> None:
    """The calls in the announcement say how to reach it, and nothing is left of it."""
    path = tmp_path / "s.sock"
    with real_server(doubler, "--uds", path) as server:
        assert server.announced["try"][0].startswith(f"curl --unix-socket {path} http://localhost/")
        server.logged("ready")
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url=server.address
        ) as client:
            assert client.get("/v2/health/ready").json() == {"ready": True}
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0
    assert not path.exists()


def test_models_are_loaded_and_unloaded_everywhere(doubler: Path) -> None:
    """Whichever worker is asked, all have done it when the answer is there."""
    models.write_doubler(doubler / "other.onnx")
    (doubler / "broken.onnx").write_bytes(b"this is no model")
    with two_workers(doubler, *EXPLICIT) as (server, pids), ExitStack() as stack:
        one, two = (caller for _, caller in sorted(pair(stack, server).items()))
        assert one.states() == two.states() == {"broken": "", "doubler": "READY", "other": ""}
        assert one.post("/v2/repository/models/other/load") == (
            200,
            {"name": "other", "load": True},
        )
        for caller in (one, two):
            assert caller.get("/v2/models/other/ready")[0] == 200
            assert caller.states()["other"] == "READY"
        assert two.post("/v2/repository/models/doubler/unload")[0] == 200
        for caller in (one, two):
            assert caller.get("/v2/models/doubler/ready")[0] in (404, 503)
            assert caller.double() in (404, 503)
        status, body = two.post("/v2/repository/models/broken/load")
        assert status == 400
        assert body["error"].startswith("failed to load 'broken', version 1: ")
        assert two.post("/v2/repository/models/nobody/load")[0] == 404
        os.kill(pids[1], signal.SIGKILL)
        server.logged("worker 1 has tried its models")
        with closing(Caller(server, "again")) as again:
            assert again.worker == 1
            assert again.get("/v2/models/other/ready")[0] == 200
            assert again.double() in (404, 503)


def wait_for_end(*pids: int) -> None:
    """Return when the processes are no more."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], PATIENCE)[0]
        finally:
            os.close(descriptor)


def test_workers_end_with_their_supervisor(doubler: Path) -> None:
    """Nobody is left behind when it is killed."""
    with two_workers(doubler) as (server, pids):
        server.process.kill()
        wait_for_end(*pids.values())


def test_asked_twice_it_ends_at_once(doubler: Path) -> None:
    """A request that never ends holds nothing up then."""
    with two_workers(doubler) as (server, pids):
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as caller:
            caller.sendall(b"POST /v2/models/doubler/infer HTTP/1.1\r\nHost: e2e\r\n")
            caller.sendall(b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
            assert caller.recv(1024).startswith(b"HTTP/1.1 100 ")
            server.process.send_signal(signal.SIGTERM)
            server.logged("asked to end by SIGTERM")
            server.process.send_signal(signal.SIGTERM)
            assert server.ended() == 128 + signal.SIGTERM
        wait_for_end(*pids.values())


def test_a_single_worker_is_replaced_too(doubler: Path) -> None:
    """Callers wait while there is nobody to answer them."""
    with real_server(doubler, "--workers", 1) as server:
        pid = server.logged("worker 1 takes connections")["pid"]
        server.logged("ready")
        os.kill(pid, signal.SIGKILL)
        with httpx.Client(base_url=server.address, timeout=PATIENCE) as client:
            assert client.get("/v2/health/live").status_code == 200


def test_a_model_that_ends_its_process_is_quarantined(doubler: Path) -> None:
    """At load before it reaches a worker, by requests after three; the others are served."""
    graphs.write_deadly_constant(doubler / "constant.onnx")
    graphs.write_deadly_quotient(doubler / "quotient.onnx")
    row = {"datatype": "INT32", "shape": [1]}
    body = {
        "inputs": [
            {"name": "a", **row, "data": [-(2**31)]},
            {"name": "b", **row, "data": [-1]},
        ]
    }
    with real_server(doubler, "--workers", 2) as server:
        server.logged("ready")
        with httpx.Client(base_url=server.address, timeout=PATIENCE) as client:

            def reason(model: str) -> str:
                return str(client.get(f"/v2/models/{model}/ready").json().get("error", ""))

            assert "it ended the process that tried it by SIGFPE" in reason("constant")
            deaths = 0
            while "quarantined" not in (why := reason("quotient")):
                try:
                    client.post("/v2/models/quotient/infer", json=body)
                except httpx.TransportError:
                    deaths += 1
                # One more may fall to the other worker before it has heard of the third.
                assert deaths <= 4
            assert "it ended its worker process 3 times" in why
            assert client.post("/v2/models/quotient/infer", json=body).status_code == 503
            metrics = client.get("/metrics").text
            assert f"onnxport_worker_restarts_total {deaths}.0" in metrics
            # After so many deaths both workers may still be loading what is left.
            while client.get("/v2/models/doubler/ready").status_code != 200:
                assert server.process.poll() is None
