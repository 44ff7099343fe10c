"""How many cores this process may really use: affinity and the cgroup's quota, not the host."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the whole cores that affinity and the cgroup's CPU quota leave, at least 1."""
    affinity, limit = len(os.sched_getaffinity(0)), quota(cgroup)
    return max(1, min(affinity, math.ceil(limit))) if limit else affinity


def quota(cgroup: Path = _CGROUP) -> float | None:
    """Return the cores' worth of time that the cgroup gives, None where it sets no limit."""
    return _quota_v2(cgroup) or _quota_v1(cgroup)


def _quota_v2(cgroup: Path) -> float | None:
    words = _read(cgroup / "cpu.max").split()
    if len(words) != 2 or words[0] == "max":
        return None
    return int(words[0]) / int(words[1])


def _quota_v1(cgroup: Path) -> float | None:
    quota = _read(cgroup / "cpu" / "cpu.cfs_quota_us")
    period = _read(cgroup / "cpu" / "cpu.cfs_period_us")
    if not quota or not period or int(quota) <= 0:
        return None
    return int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
