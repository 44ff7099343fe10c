"""A child's end in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.isolation import Ended, run_module


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a module ``child`` that a child process can run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "child.py"


def test_a_child_that_ends_well(module: Path) -> None:
    """It gets its arguments, and what it wrote is kept apart."""
    module.write_text("import sys\nprint(sys.argv[1])\nprint('aside', file=sys.stderr)\n")
    ended = run_module(["child", "späm"], 60)
    assert (ended.code, ended.out, ended.err, ended.problem) == (0, "späm\n", "aside\n", "")


def test_a_child_that_crashes(module: Path) -> None:
    """The signal is named, and the asker lives on."""
    module.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert run_module(["child"], 60).problem == "the process was ended by SIGSEGV"


def test_a_child_that_fails(module: Path) -> None:
    """Its exit code is told, with its last words."""
    module.write_text("import sys\nprint('first', file=sys.stderr)\nsys.exit('last')\n")
    assert run_module(["child"], 60).problem == "ended with exit code 1: last"


def test_a_child_that_hangs(module: Path) -> None:
    """It is ended after its time."""
    module.write_text("import threading\nthreading.Event().wait()\n")
    ended = run_module(["child"], 0.5)
    assert ended.code is None
    assert ended.problem == "did not end within 0.5 s"


def test_the_runtimes_log_is_not_the_reason() -> None:
    """ONNX Runtime goes on logging after the reason was told."""
    log = "2026-01-01 [W:onnxruntime:Default, x.cc:1 Create] Failed to create"
    assert Ended(1, "", f"no driver\n{log}\n", 1).problem == "ended with exit code 1: no driver"
    assert Ended(3, "", "", 1).problem == "ended with exit code 3: it wrote nothing"
    assert Ended(-99, "", "", 1).problem == "the process was ended by signal 99"
