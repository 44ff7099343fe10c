"""What this process may really use of the machine: affinity and cgroups decide, not the host."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_ROOT = Path("/")
_CGROUPS = "sys/fs/cgroup"
# Where a machine of both versions mounts the newer one.
_UNIFIED = f"{_CGROUPS}/unified"


def usable_cores(root: Path = _ROOT) -> int:
    """Return the whole cores that affinity and the cgroups' CPU quotas leave, at least 1.

    A group may use no more than each of the groups around it; part of a core counts as one.
    ``root`` is where ``proc`` and ``sys`` lie.
    """
    affinity, limit = len(os.sched_getaffinity(0)), quota(root)
    return affinity if limit is None else max(1, min(affinity, math.ceil(limit)))


def quota(root: Path = _ROOT) -> float | None:
    """Return the cores' worth of time that the cgroups give, None where they set no limit."""
    return min((*_quotas_v2(root), *_quotas_v1(root)), default=None)


def usable_memory(root: Path = _ROOT) -> int:
    """Return the bytes of memory that the machine has and the cgroups around us allow."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    groups = _groups(root)
    for mount in (root / _CGROUPS, root / _UNIFIED):
        limits += _numbers(_around(mount, groups.get("", "/")), "memory.max")
    folders = _around(root / _CGROUPS / "memory", groups.get("memory", "/"))
    limits += _numbers(folders, "memory.limit_in_bytes")
    return min(limits)


def _numbers(folders: Iterable[Path], name: str) -> Iterator[int]:
    texts = (_read(folder / name) for folder in folders)
    # "max" stands for no limit.
    return (int(text) for text in texts if text.isdecimal())


def cpu_model(info: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name, such as "AMD EPYC 9B45"; its architecture where none is said."""
    for line in _read(info).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return os.uname().machine


def _quotas_v2(root: Path) -> Iterator[float]:
    for mount in (root / _CGROUPS, root / _UNIFIED):
        for folder in _around(mount, _groups(root).get("", "/")):
            words = _read(folder / "cpu.max").split()
            if len(words) == 2 and words[0] != "max":
                yield int(words[0]) / int(words[1])


def _quotas_v1(root: Path) -> Iterator[float]:
    path = _groups(root).get("cpu", "/")
    # Distributions mount the pair of controllers under one name, and link or repeat the other.
    for name in ("cpu", "cpu,cpuacct", "cpuacct,cpu"):
        for folder in _around(root / _CGROUPS / name, path):
            quota = _read(folder / "cpu.cfs_quota_us")
            period = _read(folder / "cpu.cfs_period_us")
            if quota and period and int(quota) > 0:
                yield int(quota) / int(period)


def _groups(root: Path) -> dict[str, str]:
    """Return this process's group by controller of version 1, and under "" that of version 2."""
    found: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _around(mount: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a group and of every group around it, the mount itself included.

    In a container the path may be the host's, which is not there: then the mount is the group.
    """
    folder = mount / path.lstrip("/")
    if ".." in folder.parts or not folder.is_dir():
        folder = mount
    while folder != mount:
        yield folder
        folder = folder.parent
    yield mount


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
