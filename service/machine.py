"""What a machine has that models may run on: memory, a driver, the vendor's libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
# A limit that is none is written as a number near the largest.
_NO_LIMIT = 1 << 60
_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
_SMI_SECONDS = 20.0
_LIBRARY = re.compile(
    r"lib(?:cuda|cudart|cublas|cublasLt|cufft|curand|cudnn|nvrtc|nvinfer)\.so(?:\.([0-9.]+))?"
)
_PLACES = ("/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")

Command = Callable[[Sequence[str]], str]


def memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> dict[str, int | None]:
    """Return bytes in all, bytes available, and the control group's limit, None without one."""
    sizes = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", _read(meminfo), re.MULTILINE))
    limits = [_read(cgroup / name).strip() for name in _LIMITS]
    numbers = [int(limit) for limit in limits if limit.isdecimal() and int(limit) < _NO_LIMIT]
    return {
        "total": _kilobytes(sizes.get("MemTotal")),
        "available": _kilobytes(sizes.get("MemAvailable")),
        "limit": min(numbers, default=None),
    }


def _kilobytes(text: str | None) -> int | None:
    return None if text is None else int(text) << 10


def run_command(arguments: Sequence[str]) -> str:
    """Return what a command writes, "" where it is absent, fails or does not end."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            arguments, capture_output=True, timeout=_SMI_SECONDS, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def gpus(command: Command = run_command) -> list[dict[str, str]]:
    """Return name, driver and memory of each GPU, as nvidia-smi tells; none where it is absent."""
    rows = [line.split(", ") for line in command(_SMI).splitlines()]
    return [{"name": row[0], "driver": row[1], "memory": row[2]} for row in rows if len(row) == 3]


def library_places() -> list[Path]:
    """Return the folders in which CUDA's and cuDNN's libraries are looked for."""
    nvidia = Path(sysconfig.get_path("purelib")) / "nvidia"
    asked = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return [*sorted(nvidia.glob("*/lib")), *(Path(one) for one in (*asked, *_PLACES) if one)]


def libraries(places: Iterable[Path]) -> list[dict[str, str]]:
    """Return name, version and path of each vendor's library in these folders.

    The version is what the file is called behind all links; "" where it is not called so.
    """
    found: dict[str, dict[str, str]] = {}
    for place in places:
        for path in sorted(place.glob("lib*.so*")) if place.is_dir() else ():
            if not _LIBRARY.fullmatch(path.name):
                continue
            real = path.resolve()
            named = _LIBRARY.fullmatch(real.name) or _LIBRARY.fullmatch(path.name)
            version = (named[1] if named else None) or ""
            found.setdefault(str(real), {"name": path.name, "version": version, "path": str(real)})
    return list(found.values())


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
