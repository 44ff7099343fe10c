"""The cores that a process may really use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.cpu import cpu_model, usable_cores

ALL = len(os.sched_getaffinity(0))
QUOTA, PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write the files of a control group, as the kernel shows them: with a newline at the end."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def test_without_a_control_group(tmp_path: Path) -> None:
    """The cores that the process is bound to are its own."""
    assert usable_cores(tmp_path) == ALL


def test_this_machine() -> None:
    """Whatever it is, there is at least one core and no more than the machine's."""
    assert 1 <= usable_cores() <= ALL


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000", 8),
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("400000 100000", 4),
        ("1600000 100000", 8),
        ("max", 8),
        ("", 8),
    ],
)
def test_the_quota_of_version_2(tmp_path: Path, content: str, cores: int) -> None:
    """Part of a core is rounded up; more than the machine has is no gain."""
    assert usable_cores(write(tmp_path, {"cpu.max": content})) == cores


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("quota", "cores"), [("-1", 8), ("25000", 1), ("250000", 3), ("900000", 8), ("", 8)]
)
def test_the_quota_of_version_1(tmp_path: Path, quota: str, cores: int) -> None:
    """A quota below nothing means that there is none."""
    write(tmp_path, {QUOTA: quota, PERIOD: "100000"})
    assert usable_cores(tmp_path) == cores


@pytest.mark.usefixtures("eight_cores")
def test_version_1_without_its_period(tmp_path: Path) -> None:
    """Half a quota is none."""
    assert usable_cores(write(tmp_path, {QUOTA: "100000"})) == 8


@pytest.mark.usefixtures("eight_cores")
def test_version_2_goes_first(tmp_path: Path) -> None:
    """Where both are there the newer one holds."""
    write(tmp_path, {"cpu.max": "200000 100000", QUOTA: "500000", PERIOD: "100000"})
    assert usable_cores(tmp_path) == 2


def test_the_processors_name(tmp_path: Path) -> None:
    """As the kernel shows it; where it does not, the machine's kind is better than nothing."""
    write(tmp_path, {"x86": "processor\t: 0\nmodel name\t: Some CPU: 9\n", "arm": "processor : 0"})
    assert cpu_model(tmp_path / "x86") == "Some CPU: 9"
    assert cpu_model(tmp_path / "arm") == os.uname().machine
    assert cpu_model(tmp_path / "none") == os.uname().machine
