"""How a real server begins and ends."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support import graphs, models
from tests.support.servers import PATIENCE, RealServer, real_server

BODY = b'{"instances": ["one two three four five"]}'
HEAD = (
    b"POST /v1/models/texts:predict HTTP/1.1\r\nHost: e2e\r\nExpect: 100-continue\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Return a repository with one bundle."""
    models.text_bundle(tmp_path)
    return tmp_path


def test_live_before_ready(texts: Path) -> None:
    """While a model loads the server answers, names it, and serves what is ready."""
    # Whether rows are independent is found out by asking, and an endless loop is asked for seconds.
    graphs.write_endless(texts / "slow" / "1" / "model.onnx")
    with (
        real_server(texts, "--workers", 1) as server,
        httpx.Client(base_url=server.address, timeout=PATIENCE) as client,
    ):
        assert client.get("/v2/health/live").json() == {"live": True}
        server.logged("model texts version 1: READY")
        answer = client.get("/v2/health/ready")
        assert answer.status_code == 503
        assert "model 'slow' version 1 is VERIFYING" in answer.json()["error"]
        assert client.get("/v2/models/slow/ready").status_code == 503
        predicted = client.post("/v1/models/texts:predict", content=BODY).json()
        assert predicted["predictions"][0]["label"] == "long"
        server.logged("ready")
        assert client.get("/v2/health/ready").json() == {"ready": True}


def wait_until_closed(server: RealServer) -> None:
    """Return when the server takes no new connections."""
    host, port = server.address.removeprefix("http://").split(":")
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            socket.create_connection((host, int(port)), PATIENCE).close()
        except ConnectionError:
            return
    pytest.fail("the server still listens")


def test_before_the_end_the_server_says_that_it_leaves(texts: Path) -> None:
    """Not ready on every worker, but it goes on answering, each time for the last time."""
    with real_server(texts, "--workers", 2, "--drain-delay", 3600) as server:
        server.logged("ready")
        host, port = server.address.removeprefix("http://").split(":")
        with ExitStack() as stack:
            idle = [
                stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))
                for _ in range(4)
            ]
            for caller in idle:
                assert ask(caller, "/readyz").startswith(b"HTTP/1.1 200 ")
            server.process.send_signal(signal.SIGTERM)
            server.logged("asked to end by SIGTERM")
            # Of two workers each has two of the four, and both of those that come now.
            new = [
                stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))
                for _ in range(2)
            ]
            while ask(new[0], "/readyz").startswith(b"HTTP/1.1 200 "):
                new[0] = stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))
            for caller in (*idle, new[1]):
                answer = ask(caller, "/v1/models/texts")
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert b"connection: close\r\n" in answer
                assert caller.recv(1) == b""
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 128 + signal.SIGTERM


def ask(caller: socket.socket, path: str) -> bytes:
    """Return what comes first of the answer, its head and more."""
    caller.sendall(f"GET {path} HTTP/1.1\r\nHost: e2e\r\n\r\n".encode())
    received = caller.recv(1 << 16)
    while b"}" not in received.partition(b"\r\n\r\n")[2]:
        received += caller.recv(1 << 16)
    return received


def test_ctrl_c_waits_for_nobody(texts: Path) -> None:
    """A person has no balancer that must first hear of it."""
    with real_server(texts, "--drain-delay", 3600) as server:
        server.logged("ready")
        server.process.send_signal(signal.SIGINT)
        assert server.ended() == 0


def test_what_was_accepted_is_answered(texts: Path) -> None:
    """A request whose body is still on its way when the end is asked for gets its answer."""
    with real_server(texts) as server:
        server.logged("model texts version 1: READY")
        host, port = server.address.removeprefix("http://").split(":")
        idle = socket.create_connection((host, int(port)), PATIENCE)
        with idle, socket.create_connection((host, int(port)), PATIENCE) as caller:
            caller.sendall(HEAD)
            # The server says this when the application waits for the body.
            assert caller.recv(1024).startswith(b"HTTP/1.1 100 ")
            server.process.send_signal(signal.SIGTERM)
            wait_until_closed(server)
            caller.sendall(BODY)
            answer = b"".join(iter(lambda: caller.recv(1 << 16), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"label":"long"' in answer
        server.logged("model texts version 1: UNLOADED")
        assert server.ended() == 0
