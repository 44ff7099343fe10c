"""Why CUDA does not load here, found without ONNX Runtime and said in plain words."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

DRIVER = "libcuda.so.1"
# What the CUDA provider is linked against, and cuDNN, without which it cannot convolve.
LIBRARIES = (
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libcudart.so.13",
    "libcudnn.so.9",
)
# The driver's version as it says it itself: CUDA 13.0.
NEEDED = 13_000
_REFUSALS = {
    0: "the driver sees no GPU",
    100: "the driver sees no GPU",
    803: "the driver's library and its kernel module are of different versions; reboot",
}

OpenLibrary = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class CudaFacts:
    """What can be asked of a machine: ``missing`` libraries, each with the loader's reason.

    ``driver`` is the newest CUDA that the driver knows, such as 13000, None where it does not say;
    ``status`` is what it answered when it was started, 0 for success.
    """

    missing: Mapping[str, str] = field(default_factory=dict)
    driver: int | None = None
    status: int = 0
    devices: int = 1


def look(open_library: OpenLibrary = ctypes.CDLL) -> CudaFacts:
    """Ask the loader for the libraries, and the driver for its version and its devices."""
    missing = missing_libraries((*LIBRARIES, DRIVER), open_library)
    if DRIVER in missing:
        return CudaFacts(missing)
    driver = open_library(DRIVER)
    version, count = ctypes.c_int(), ctypes.c_int()
    known = driver.cuDriverGetVersion(ctypes.byref(version)) == 0
    status = int(driver.cuInit(0))
    if status == 0:
        status = int(driver.cuDeviceGetCount(ctypes.byref(count)))
    return CudaFacts(missing, version.value if known else None, status, count.value)


def missing_libraries(
    names: Iterable[str], open_library: OpenLibrary = ctypes.CDLL
) -> dict[str, str]:
    """Return which libraries the loader does not find or cannot load, each with its reason."""
    found = {}
    for name in names:
        try:
            open_library(name)
        except OSError as error:
            found[name] = str(error)
    return found


def why_not(facts: CudaFacts) -> str:
    """Return in plain words why CUDA cannot work with these facts, "" if nothing speaks against."""
    libraries = [name for name in facts.missing if name != DRIVER]
    remedy = f"{', '.join(libraries)} cannot be loaded; mend it with: pip install 'onnxport[gpu]'"
    return "; ".join(filter(None, [_driver_problem(facts), remedy if libraries else ""]))


def _driver_problem(facts: CudaFacts) -> str:
    if DRIVER in facts.missing:
        return (
            f"there is no NVIDIA driver ({DRIVER}); CUDA 13 needs 580 or newer, and a container "
            "the NVIDIA runtime"
        )
    if facts.driver is not None and facts.driver < NEEDED:
        return (
            f"the driver is too old: it knows CUDA {_dotted(facts.driver)}, needed is "
            f"{_dotted(NEEDED)} (driver 580 or newer)"
        )
    if facts.status or facts.devices < 1:
        return _REFUSALS.get(facts.status, f"the driver cannot be started: it says {facts.status}")
    return ""


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
