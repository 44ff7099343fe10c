"""How much memory a worker may use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service.allowance import share_of, usable_bytes


def machine(root: Path, **files: str) -> Path:
    """Write what the kernel says of 8 GiB, and of groups."""
    said = {"proc/meminfo": "MemTotal: 8388608 kB\nMemFree: 1 kB\n", **files}
    for name, text in said.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_the_machine_has_so_much(tmp_path: Path) -> None:
    """Where nothing is known nothing is limited."""
    assert usable_bytes(machine(tmp_path)) == 8 << 30
    assert usable_bytes(tmp_path / "nowhere") == 0


@pytest.mark.parametrize(
    ("group", "file"),
    [
        ("0::/pod", "sys/fs/cgroup/pod/memory.max"),
        ("0::/pod/inner", "sys/fs/cgroup/pod/memory.max"),
        ("5:memory:/pod", "sys/fs/cgroup/memory/pod/memory.limit_in_bytes"),
    ],
)
def test_a_group_may_have_less(tmp_path: Path, group: str, file: str) -> None:
    """Of either version, and a group around it as well."""
    root = machine(tmp_path, **{"proc/self/cgroup": f"{group}\n", file: f"{1 << 30}\n"})
    (root / "sys/fs/cgroup/pod/inner").mkdir(parents=True, exist_ok=True)
    assert usable_bytes(root) == 1 << 30
    (root / file).write_text("max\n")
    assert usable_bytes(root) == 8 << 30


def test_workers_share_four_fifths() -> None:
    """Nothing known is nothing limited."""
    assert share_of(10 << 30, 2) == 4 << 30
    assert share_of(0, 2) == 0


def test_what_is_too_much_is_refused_and_the_process_lives() -> None:
    """Python sees it as an error of the one call."""
    script = """
from service.allowance import limit_memory
limit_memory(1 << 30)
try:
    bytearray(2 << 30)
except MemoryError:
    print(len(bytearray(64 << 20)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().strip() == str(64 << 20)
