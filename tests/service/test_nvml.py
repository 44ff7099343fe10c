"""NVIDIA's devices, from a library made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from service import nvml
from service.nvml import Device, compared, devices


class Trouble(Exception):
    """What the library raises."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A device's memory."""

    used: int
    total: int


class Library:
    """The library on a machine with two devices, or with a driver that is ``broken``."""

    NVMLError = Trouble

    def __init__(self, *, broken: bool = False, encoded: bool = False) -> None:
        """Answer with bytes where ``encoded``, as older releases do."""
        self.broken = broken
        self.encoded = encoded

    def nvmlInit(self) -> None:  # noqa: N802 - the library's own names
        """Start."""
        if self.broken:
            raise Trouble("driver not loaded")

    def nvmlSystemGetDriverVersion(self) -> Any:  # noqa: N802
        """Return the driver's version."""
        return self._text("580.159")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Return how many devices there are."""
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        """Return a handle."""
        return index

    def nvmlDeviceGetName(self, handle: int) -> Any:  # noqa: N802
        """Return the name."""
        return self._text(f"GPU {handle}")

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Memory:  # noqa: N802
        """Return the memory."""
        return Memory(10 * handle, 100)

    def _text(self, text: str) -> Any:
        return text.encode() if self.encoded else text


@pytest.mark.parametrize("encoded", [False, True])
def test_devices_are_told(*, encoded: bool) -> None:
    """Name, driver and memory, whatever kind of text the library answers with."""
    found = devices(lambda: Library(encoded=encoded))
    assert found == (Device(0, "GPU 0", "580.159", 0, 100), Device(1, "GPU 1", "580.159", 10, 100))


def test_a_machine_without() -> None:
    """Neither a library that is not there nor a driver that does not start is an error."""

    def absent() -> Any:
        raise ImportError("no module named pynvml")

    assert devices(absent) == ()
    assert devices(lambda: Library(broken=True)) == ()
    assert isinstance(nvml.devices(), tuple)


def test_memory_before_and_after_a_load() -> None:
    """Both are told of each device; one that has just appeared has nothing before."""
    before = (Device(0, "A", "1", 5, 100),)
    after = (Device(0, "A", "1", 30, 100), Device(1, "B", "1", 7, 50))
    first, second = compared(before, after)
    assert (first["used_bytes_before_load"], first["used_bytes_after_load"]) == (5, 30)
    assert (second["used_bytes_before_load"], second["total_bytes"]) == (None, 50)
