"""NVIDIA's devices as their management library tells of them; none where there is none."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# What `onnxport[gpu]` brings; the CPU's installation does without.
_MODULE = "pynvml"


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU: its number, name and driver, and its memory in bytes, used by anybody and in all."""

    index: int
    name: str
    driver: str
    used: int
    total: int


def load_library() -> Any:  # noqa: ANN401 - an optional library without types
    """Return the library's module; raises ImportError where it is not installed."""
    return importlib.import_module(_MODULE)


def devices(library: Callable[[], Any] = load_library) -> tuple[Device, ...]:
    """Return the devices that the driver knows; none without a driver or without the library.

    A call takes about a millisecond.  Memory that other processes use is counted as well.
    """
    try:
        nvml = library()
    except ImportError:
        return ()
    try:
        nvml.nvmlInit()
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        return tuple(_device(nvml, n, driver) for n in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError:
        return ()


def _device(nvml: Any, index: int, driver: str) -> Device:  # noqa: ANN401
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name = _text(nvml.nvmlDeviceGetName(handle))
    return Device(index, name, driver, int(memory.used), int(memory.total))


def _text(value: str | bytes) -> str:
    # Older releases of the library answer with bytes.
    return value.decode() if isinstance(value, bytes) else value


def compared(before: Sequence[Device], after: Sequence[Device]) -> list[dict[str, object]]:
    """Return for model-info each device with its memory before and after a load."""
    at_first = {one.index: one.used for one in before}
    return [
        {
            "index": one.index,
            "name": one.name,
            "driver": one.driver,
            "total_bytes": one.total,
            "used_bytes_before_load": at_first.get(one.index),
            "used_bytes_after_load": one.used,
        }
        for one in after
    ]
