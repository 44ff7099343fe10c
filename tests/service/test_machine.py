"""What is told of a machine, from files and commands made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from service.machine import gpus, libraries, library_places, memory, run_command

MEMINFO = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    500 kB\n"


def test_memory_with_a_limit(tmp_path: Path) -> None:
    """In bytes; the limit is the control group's, in its newer or its older form."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "memory.max").write_text("2048\n")
    found = memory(tmp_path / "meminfo", tmp_path)
    assert found == {"total": 1000 << 10, "available": 500 << 10, "limit": 2048}
    (tmp_path / "memory.max").unlink()
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("4096\n")
    assert memory(tmp_path / "meminfo", tmp_path)["limit"] == 4096


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n"])
def test_memory_without_a_limit(tmp_path: Path, text: str) -> None:
    """A word, or a number that no machine has."""
    (tmp_path / "memory.max").write_text(text)
    assert memory(tmp_path / "none", tmp_path) == {"total": None, "available": None, "limit": None}


def test_gpus_as_nvidia_smi_tells_them() -> None:
    """A row each; what it says instead of rows is none."""
    asked = []

    def command(arguments: Sequence[str]) -> str:
        asked.append(arguments[0])
        return "NVIDIA H200, 580.159, 143771 MiB\nNo devices were found\n"

    assert gpus(command) == [
        {"name": "NVIDIA H200", "driver": "580.159", "memory": "143771 MiB"},
    ]
    assert asked == ["nvidia-smi"]


def test_a_command_that_cannot_be_run() -> None:
    """Nothing is what it says."""
    assert run_command(["no-such-command-anywhere"]) == ""
    assert run_command(["false"]) == ""
    assert run_command(["echo", "yes"]) == "yes\n"


def test_libraries_with_paths_and_versions(tmp_path: Path) -> None:
    """A library and the links to it are one; others and folders that are not there are passed."""
    for name in ("libcudart.so.13.0.96", "libcudnn.so.9", "libcudnn_ops.so.9", "libc.so.6"):
        (tmp_path / name).touch()
    (tmp_path / "libcudart.so.13").symlink_to("libcudart.so.13.0.96")
    (tmp_path / "libcudart.so").symlink_to("libcudart.so.13")
    found = libraries([tmp_path, tmp_path / "nowhere"])
    assert [(one["version"], Path(one["path"]).name) for one in found] == [
        ("13.0.96", "libcudart.so.13.0.96"),
        ("9", "libcudnn.so.9"),
    ]


def test_libraries_are_looked_for_where_the_loader_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among others in the folders of LD_LIBRARY_PATH."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/one::/opt/two")
    assert {Path("/opt/one"), Path("/opt/two")} <= set(library_places())
    assert Path() not in library_places()
