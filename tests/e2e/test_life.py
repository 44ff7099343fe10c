"""How a real server begins and ends."""

from __future__ import annotations

import signal
import socket
import time
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
