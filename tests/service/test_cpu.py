"""The cores and the memory that a process may really use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.cpu import cpu_model, usable_cores, usable_memory

ALL = len(os.sched_getaffinity(0))
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu"
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write the files of a machine, as the kernel shows them: with a newline at the end."""
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
    assert usable_cores(write(tmp_path, {f"{V2}/cpu.max": content})) == cores


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("quota", "cores"), [("-1", 8), ("25000", 1), ("250000", 3), ("900000", 8), ("", 8)]
)
def test_the_quota_of_version_1(tmp_path: Path, quota: str, cores: int) -> None:
    """A quota below nothing means that there is none."""
    write(tmp_path, {f"{V1}/{QUOTA}": quota, f"{V1}/{PERIOD}": "100000"})
    assert usable_cores(tmp_path) == cores


@pytest.mark.usefixtures("eight_cores")
def test_version_1_without_its_period(tmp_path: Path) -> None:
    """Half a quota is none."""
    assert usable_cores(write(tmp_path, {f"{V1}/{QUOTA}": "100000"})) == 8


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("inner", "outer", "cores"), [("500000", "300000", 3), ("max", "2", 1)])
def test_a_group_inside_others(tmp_path: Path, inner: str, outer: str, cores: int) -> None:
    """The narrowest of the groups around a process holds, and what is beside them does not."""
    files = {
        "proc/self/cgroup": "0::/system.slice/server.service",
        f"{V2}/system.slice/server.service/cpu.max": f"{inner} 100000",
        f"{V2}/system.slice/cpu.max": f"{outer} 100000",
        f"{V2}/user.slice/cpu.max": "1000 100000",
    }
    assert usable_cores(write(tmp_path, files)) == cores


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("path", ["/docker/4f2a", "/../../elsewhere"])
def test_a_container_that_sees_the_hosts_path(tmp_path: Path, path: str) -> None:
    """Where the path of the group is not there, the mount is the container's own group."""
    files = {"proc/self/cgroup": f"0::{path}", f"{V2}/cpu.max": "200000 100000"}
    assert usable_cores(write(tmp_path, files)) == 2


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("name", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_a_group_of_version_1_inside_others(tmp_path: Path, name: str) -> None:
    """The controller has its own path, under one of the names that distributions give it."""
    files = {
        "proc/self/cgroup": "7:memory:/elsewhere\n4:cpu,cpuacct:/docker/4f2a\n0::/",
        f"sys/fs/cgroup/{name}/docker/4f2a/{QUOTA}": "200000",
        f"sys/fs/cgroup/{name}/docker/4f2a/{PERIOD}": "50000",
        f"sys/fs/cgroup/{name}/docker/{QUOTA}": "-1",
        f"sys/fs/cgroup/{name}/docker/{PERIOD}": "100000",
    }
    assert usable_cores(write(tmp_path, files)) == 4


@pytest.mark.usefixtures("eight_cores")
def test_both_versions(tmp_path: Path) -> None:
    """On a machine with both the narrower quota holds."""
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/\n0::/init.scope",
        f"{V2}/unified/init.scope/cpu.max": "200000 100000",
        f"{V1}/{QUOTA}": "500000",
        f"{V1}/{PERIOD}": "100000",
    }
    assert usable_cores(write(tmp_path, files)) == 2


def test_the_processors_name(tmp_path: Path) -> None:
    """As the kernel shows it; where it does not, the machine's kind is better than nothing."""
    write(tmp_path, {"x86": "processor\t: 0\nmodel name\t: Some CPU: 9\n", "arm": "processor : 0"})
    assert cpu_model(tmp_path / "x86") == "Some CPU: 9"
    assert cpu_model(tmp_path / "arm") == os.uname().machine
    assert cpu_model(tmp_path / "none") == os.uname().machine


def test_the_memory_that_may_be_used(tmp_path: Path) -> None:
    """The machine's, or what the tightest of the groups around leaves; "max" is no limit."""
    whole = usable_memory(tmp_path)
    assert whole == usable_memory(write(tmp_path, {f"{V2}/memory.max": "max"}))
    write(tmp_path, {"proc/self/cgroup": "0::/a/b", f"{V2}/a/b/memory.max": "max"})
    write(tmp_path, {f"{V2}/a/memory.max": "200000000", f"{V2}/memory.max": "300000000"})
    assert usable_memory(tmp_path) == 200_000_000


def test_the_memory_in_version_1(tmp_path: Path) -> None:
    """It has a controller of its own."""
    write(tmp_path, {"proc/self/cgroup": "3:memory:/a"})
    write(tmp_path, {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000000"})
    assert usable_memory(tmp_path) == 1_000_000
