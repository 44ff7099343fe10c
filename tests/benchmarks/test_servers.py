"""Starting, asking and ending servers."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

import pytest

from benchmarks import proc
from benchmarks.catalogue import catalogue, chosen
from benchmarks.dialects import NAMED, Request
from benchmarks.errors import BenchmarkError, ServerUnusable
from benchmarks.peers.environment import requirements
from benchmarks.servers import Kind, Launch, Site, ask, free_port, running

PEERS = ("triton", "mosec", "mlserver", "litserve", "kserve", "bentoml")
FIRST = [Request("/", b"{}", {})]
# Answers every POST with 200, and has a child that only a killed session takes along.
SERVER = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

PATIENCE = 30.0


def kind(code: str) -> Kind:
    """Return a server that runs Python code."""

    def launch(site: Site) -> Launch:
        return Launch([sys.executable, "-c", code, str(site.port)])

    return Kind("made up", "1", "none", NAMED, launch, "/")


def site(folder: Path) -> Site:
    """Return a place without models."""
    return Site({}, folder, folder, free_port(), 1)


def test_a_server_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    """Its children too."""
    with running(kind(SERVER), site(tmp_path), FIRST) as server:
        assert ask(server.port, FIRST[0])[::2] == (200, b"ok")
        members = [each.pid for each in proc.family(proc.processes(), server.pid)]
        assert len(members) == 2
        handles = [os.pidfd_open(pid) for pid in members]
    for handle in handles:
        # The child is init's now, and may take a moment to end.
        ended, _, _ = select.select([handle], [], [], PATIENCE)
        assert ended
        os.close(handle)


def test_a_server_that_ends_at_once_is_unusable_with_its_last_words(tmp_path: Path) -> None:
    """The reason goes into the report."""
    broken = kind("raise SystemExit('no such wheel')")
    with (
        pytest.raises(ServerUnusable, match="ended with 1: no such wheel"),
        running(broken, site(tmp_path), FIRST),
    ):
        pytest.fail("it must not be taken for ready")


def test_a_server_is_ended_when_the_measurement_is_interrupted(tmp_path: Path) -> None:
    """As on Ctrl-C."""
    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path, pids)
    assert len(pids) == 1
    assert not alive(pids[0])


def interrupted(folder: Path, pids: list[int]) -> None:
    """Interrupt a measurement; ``pids`` gets the server's process."""
    with running(kind(SERVER), site(folder), FIRST) as server:
        pids.append(server.pid)
        raise KeyboardInterrupt


def test_an_unknown_server_is_refused_with_those_that_are_known() -> None:
    """Before anything is started."""
    with pytest.raises(BenchmarkError, match="server 'apache': must be one of onnxport, "):
        chosen(["apache"], catalogue())


def test_arguments_for_onnxport_are_shown_in_its_settings() -> None:
    """So that a report says what was measured."""
    found = catalogue("--max-batch-rows 8")["onnxport"]
    assert found.settings.endswith("--max-batch-rows 8")


@pytest.mark.parametrize("peer", PEERS)
def test_every_package_of_a_peer_is_pinned(peer: str) -> None:
    """So that a run can be repeated."""
    lines = requirements(peer).read_text().splitlines()
    assert all(line.count("==") == 1 for line in lines if not line.startswith("#"))
    assert catalogue()[peer].version[0].isdigit()


def alive(pid: int) -> bool:
    """Return whether a process still runs; one that waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z" and pid != os.getpid()
