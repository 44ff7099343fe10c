"""Why CUDA does not load, from a loader and a driver made by hand."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import pytest

from service.cuda import DRIVER, LIBRARIES, CudaFacts, look, missing_libraries, why_not


@dataclass(slots=True)
class Driver:
    """The driver's library: each call answers what it was made with."""

    version: int = 13_000
    devices: int = 1
    start: int = 0
    of_version: int = 0

    def cuDriverGetVersion(self, target: Any) -> int:  # noqa: N802 - the driver's own names
        """Write the version."""
        ctypes.cast(target, ctypes.POINTER(ctypes.c_int))[0] = self.version
        return self.of_version

    def cuInit(self, flags: int) -> int:  # noqa: N802
        """Start, or say why not."""
        assert flags == 0
        return self.start

    def cuDeviceGetCount(self, target: Any) -> int:  # noqa: N802
        """Write the number of devices."""
        ctypes.cast(target, ctypes.POINTER(ctypes.c_int))[0] = self.devices
        return 0


def reason(driver: Driver | None, *missing: str) -> str:
    """Return why CUDA does not load with this driver and these libraries missing."""

    def load(name: str) -> Any:
        if name in missing or (name == DRIVER and driver is None):
            raise OSError(f"{name}: cannot open shared object file")
        return driver

    return why_not(look(load))


def test_a_machine_on_which_it_works() -> None:
    """Nothing is wrong."""
    assert reason(Driver()) == ""
    # A driver that does not say its version is believed.
    assert reason(Driver(version=1, of_version=1)) == ""


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (None, "there is no NVIDIA driver (libcuda.so.1); CUDA 13 needs 580 or newer"),
        (Driver(version=12_080), "the driver is too old: it knows CUDA 12.8, needed is 13.0"),
        (Driver(devices=0), "the driver sees no GPU"),
        (Driver(start=100), "the driver sees no GPU"),
        (Driver(start=803), "of different versions; reboot"),
        (Driver(start=999), "the driver cannot be started: it says 999"),
    ],
)
def test_a_driver_that_will_not_do(driver: Driver | None, words: str) -> None:
    """Each trouble has its own words."""
    assert words in reason(driver)
    assert "pip install" not in reason(driver)


def test_libraries_that_are_missing() -> None:
    """They are named with the command that brings them, beside what is wrong with the driver."""
    words = "libcudnn.so.9 cannot be loaded; mend it with: pip install 'onnxport[gpu]'"
    assert reason(Driver(), "libcudnn.so.9") == words
    assert reason(None, "libcudnn.so.9").endswith(f"; {words}")
    assert all(name in reason(None, *LIBRARIES) for name in LIBRARIES)


def test_the_loaders_own_reason_is_kept() -> None:
    """It says which of the library's own needs is not met."""
    found = missing_libraries(["libno-such-library.so.1"])
    assert "cannot open shared object file" in found["libno-such-library.so.1"]
    assert CudaFacts().missing == {}
