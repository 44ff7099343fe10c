"""The question that container engines ask, in this process and of real servers."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from service.__main__ import main
from service.healthcheck import ask_health, health_url
from tests.support import models
from tests.support.certificates import Authority
from tests.support.servers import PATIENCE, real_server


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each test in a folder of its own, without variables of ours."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("ONNXPORT_"):
            monkeypatch.delenv(name)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """Answer every request alike; yield the address and the paths that were asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Write nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join(PATIENCE)


def run(*arguments: object) -> int:
    """Run the verb and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["healthcheck", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("10.1.2.3", "10.1.2.3"),
        ("localhost", "localhost"),
    ],
)
def test_the_address_is_one_that_this_machine_reaches(host: str, asked: str) -> None:
    """An address that stands for all of them is asked on the loopback, IPv6 in brackets."""
    assert health_url(host, 81) == f"http://{asked}:81/v2/health/ready"


def test_liveness_is_another_question() -> None:
    """It has a path of its own."""
    assert health_url("127.0.0.1", 8080, live=True) == "http://127.0.0.1:8080/v2/health/live"


def test_200_is_good_and_all_else_is_not() -> None:
    """A server that is not ready says 503; a redirect or an empty answer are no health either."""
    for status, good in ((200, True), (204, False), (302, False), (503, False)):
        with answering(status, b"" if status == 204 else b"{}") as (address, _):
            assert ask_health(address, PATIENCE).good is good


def test_the_reason_holds_what_the_server_said() -> None:
    """Status and text are in it, cut where somebody else's page would fill the log."""
    with answering(503, b"not yet" + b"x" * 1000) as (address, _):
        reason = ask_health(address, PATIENCE).reason
    assert reason.startswith(f"{address}: 503 not yetx")
    assert len(reason) < 300


def test_no_server_is_bad_health() -> None:
    """A refused connection is an answer of ours, not a traceback."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        health = ask_health(f"http://127.0.0.1:{unheard.getsockname()[1]}/", PATIENCE)
    assert not health.good


def test_a_silent_server_is_bad_health() -> None:
    """One that takes the connection and never answers is waited for only so long."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        health = ask_health(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.05)
    assert not health.good
    assert "within 0.05 s" in health.reason


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health is a matter between this machine and its server."""
    with answering(200, b"{}") as (address, asked):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        assert ask_health(f"{address}/v2/health/live", PATIENCE).good
    assert asked == ["/v2/health/live"]


def test_the_verb_asks_where_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Host and port are the server's own variables; good health is exit 0 and one line."""
    with answering(200, b'{"ready":true}') as (address, asked):
        monkeypatch.setenv("ONNXPORT_HOST", "0.0.0.0")
        monkeypatch.setenv("ONNXPORT_ALLOW_OPEN", "1")
        monkeypatch.setenv("ONNXPORT_PORT", address.rpartition(":")[2])
        assert run() == 0
        assert run("--live") == 0
    assert asked == ["/v2/health/ready", "/v2/health/live"]
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f'{address}/v2/health/ready: 200 {{"ready":true}}'
    assert err == ""


def test_bad_health_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    """Docker knows only 0 and 1; the reason is on standard error, on one line."""
    with answering(503, b"one\ntwo") as (address, _):
        assert run("--url", address) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{address}: 503 one\\ntwo\n"


def test_a_wrong_call_is_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two answers to one question and a variable that does not exist are the caller's fault."""
    assert run("--url", "http://127.0.0.1:1", "--live") == 2
    monkeypatch.setenv("ONNXPORT_PROT", "1")
    assert run() == 2
    assert "ONNXPORT_PROT" in capsys.readouterr().err


def test_a_real_server_is_healthy_once_its_model_is_ready(tmp_path: Path) -> None:
    """It is live from the start, and ready with its model."""
    models.write_doubler(tmp_path / "doubler.onnx")
    with real_server(tmp_path / "doubler.onnx") as server:
        assert run("--url", f"{server.address}/v2/health/live") == 0
        server.logged("ready")
        assert run("--url", f"{server.address}/v2/health/ready") == 0


def test_a_server_on_a_unix_socket_is_asked_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket is a setting like the port; the other server on that port is not asked."""
    models.write_doubler(tmp_path / "doubler.onnx")
    path = tmp_path / "s.sock"
    monkeypatch.setenv("ONNXPORT_UDS", str(path))
    with real_server(tmp_path / "doubler.onnx", "--uds", path) as server:
        server.logged("ready")
        with answering(503, b"{}") as (address, asked):
            monkeypatch.setenv("ONNXPORT_PORT", address.rpartition(":")[2])
            assert run() == 0
    assert asked == []


def test_a_server_with_https_must_show_its_own_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked by its address and may want a caller's certificate; another's is bad health."""
    models.write_doubler(tmp_path / "doubler.onnx")
    authority = Authority(tmp_path)
    own, other = authority.sign("own"), authority.sign("other")
    tls = ("--tls-cert", own.cert, "--tls-key", own.key, "--tls-client-ca", authority.cert)
    with real_server(tmp_path / "doubler.onnx", *tls) as server:
        server.logged("ready")
        monkeypatch.setenv("ONNXPORT_PORT", server.address.rpartition(":")[2])
        for pair, exit_code in ((own, 0), (other, 1)):
            monkeypatch.setenv("ONNXPORT_TLS_CERT", str(pair.cert))
            monkeypatch.setenv("ONNXPORT_TLS_KEY", str(pair.key))
            assert run() == exit_code


def test_a_certificate_that_cannot_be_read_is_a_wrong_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is named."""
    monkeypatch.setenv("ONNXPORT_TLS_CERT", str(tmp_path / "missing.pem"))
    monkeypatch.setenv("ONNXPORT_TLS_KEY", str(tmp_path / "missing.key"))
    assert run() == 2
    assert "missing.pem" in capsys.readouterr().err
