"""Keys, HTTPS and the admin port of a server that was started as a user starts it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.audit_check import check_files
from tests.support import models
from tests.support.access import bearer, toml
from tests.support.certificates import Authority
from tests.support.servers import real_server

LOAD = "/v2/repository/models/doubler/load"
INFER = "/v2/models/doubler/infer"
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}


def test_a_server_with_keys_tls_an_admin_port_and_an_audit_log(tmp_path: Path) -> None:
    """All of it at once: each caller gets what its certificate, port and key allow."""
    models.write_doubler(tmp_path / "models" / "doubler.onnx")
    authority = Authority(tmp_path)
    server, client = authority.sign("server"), authority.sign("client")
    keys, audit = tmp_path / "keys.toml", tmp_path / "audit.log"
    keys.write_text(toml("app") + toml("ops", scopes='["admin", "read", "metrics"]'))
    stranger = ssl.create_default_context(cafile=authority.cert)
    known = ssl.create_default_context(cafile=authority.cert)
    known.load_cert_chain(client.cert, client.key)
    flags = {
        "keys-file": keys, "tls-cert": server.cert, "tls-key": server.key,
        "tls-client-ca": authority.cert, "admin-port": 0, "audit-log": audit,
        "model-control": "explicit", "load-model": "doubler",
    }  # fmt: skip
    arguments = [word for name, value in flags.items() for word in (f"--{name}", value)]
    with real_server(tmp_path / "models", *arguments) as running:
        admin = str(running.logged("listening for admin")["address"])
        assert running.address.startswith("https://127.0.0.1:")
        with (
            pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)),
            httpx.Client(verify=stranger) as caller,
        ):
            caller.get(f"{running.address}/livez")
        with httpx.Client(verify=known) as caller:
            while caller.get(f"{running.address}/readyz").status_code != 200:
                pass

            def status(method: str, url: str, key: str = "") -> int:
                headers = bearer(key) if key else {}
                body = BODY if url.endswith("infer") else None
                return caller.request(method, url, headers=headers, json=body).status_code

            assert status("POST", running.address + INFER) == 401
            assert status("POST", running.address + INFER, "app") == 200
            assert status("POST", running.address + INFER, "ops") == 403
            assert status("POST", running.address + LOAD, "ops") == 404
            assert status("POST", admin + INFER, "app") == 404
            assert status("POST", admin + LOAD, "app") == 403
            assert status("POST", admin + LOAD, "ops") == 200
            assert status("GET", admin + "/metrics", "ops") == 200
            assert status("GET", admin + "/livez") == 200
        running.process.terminate()
        assert running.ended() == 0
    lines = audit.read_bytes().splitlines(keepends=True)
    check = check_files([("audit.log", lines)])
    assert (check.problems, check.unclosed) == ([], 0)
    assert b'"outcome":"done"' in audit.read_bytes()


def test_who_does_not_end_a_handshake_is_hung_up_on(tmp_path: Path) -> None:
    """Neither silence nor plain HTTP holds a place, and neither is heard of in the log."""
    models.write_doubler(tmp_path / "models" / "doubler.onnx")
    authority = Authority(tmp_path)
    server = authority.sign("server")
    arguments = ("--tls-cert", server.cert, "--tls-key", server.key, "--head-timeout", 0.5)
    with real_server(tmp_path / "models", *arguments, "--workers", 1) as running:
        address = ("127.0.0.1", httpx.URL(running.address).port or 0)
        with (
            socket.create_connection(address) as silent,
            socket.create_connection(address) as plain,
        ):
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            for caller in (silent, plain):
                caller.settimeout(60)
                assert _hung_up(caller)
        with httpx.Client(verify=ssl.create_default_context(cafile=authority.cert)) as known:
            assert known.get(f"{running.address}/livez").status_code == 200
        running.process.terminate()
        assert running.ended() == 0
        assert {line["level"] for line in running.rest()} == {"info"}


def _hung_up(caller: socket.socket) -> bool:
    """Whether nothing is to be read any more but, perhaps, an alert of TLS."""
    try:
        while caller.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def test_a_new_key_is_shown_once_and_its_lines_are_a_key_file(tmp_path: Path) -> None:
    """What goes to standard output may be appended to the file; the key goes elsewhere."""
    file = tmp_path / "keys.toml"
    key = ""
    for name in ("first", "second"):
        command = [sys.executable, "-m", "service", "keys", "new", name, "--scopes", "read,predict"]
        with file.open("ab") as out:
            told = subprocess.run(
                command, stdout=out, stderr=subprocess.PIPE, text=True, check=True
            ).stderr
        key = told.split()[-1]
        assert key not in file.read_text()
    listed = subprocess.run(
        [sys.executable, "-m", "service", "keys", "check", str(file)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert listed.splitlines() == [
        "first: predict,read, never expires",
        "second: predict,read, never expires",
    ]
    models.write_doubler(tmp_path / "models" / "doubler.onnx")
    with real_server(tmp_path / "models", "--keys-file", file) as running:
        for header in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            assert httpx.get(f"{running.address}/v2", headers=header).status_code == 200
        assert httpx.get(f"{running.address}/v2").status_code == 401
