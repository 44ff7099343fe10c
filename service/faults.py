"""What kind of trouble an error of a run tells of; only the texts of ONNX Runtime say it."""

from __future__ import annotations

from typing import Literal

Fault = Literal["memory", "device", "stopped", "other"]

# How a lack of memory is told: by the arenas, the C++ library, CUDA and its libraries.
_MEMORY = (
    "bfcarena", "bad_alloc", "failed to allocate", "available memory of",
    "failure 2: out of memory",
    "cudaerrormemoryallocation", "cublas_status_alloc_failed", "cudnn_status_alloc_failed",
    "cuda_error_out_of_memory",
)  # fmt: skip
# After one of these nothing that this process does on the device succeeds any more.
_LOST_CODES = frozenset({
    46, 214, 219, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999,
})  # fmt: skip
_LOST = (
    "cudaerrorillegaladdress", "cudaerrorlaunchfailure", "cudaerrorecc", "an illegal memory access",
    "unspecified launch failure", "uncorrectable ecc error", "device-side assert", "devicereset",
    "device is lost", "cublas_status_execution_failed", "cudnn_status_execution_failed",
    "gpu has fallen off the bus", "context is destroyed",
)  # fmt: skip
_FAILURE = "cuda failure "


def fault_of(text: str, kind: str = "") -> Fault:
    """Return what an error with this text, of a class of this name, is about.

    A lost device may be told beside a failed allocation, which then is only its consequence.
    """
    low = text.lower()
    if kind == "DeviceReset" or _code_in(low) in _LOST_CODES or any(one in low for one in _LOST):
        return "device"
    if kind == "MemoryError" or any(one in low for one in _MEMORY):
        return "memory"
    return "stopped" if "due to terminate flag" in low else "other"


def _code_in(low: str) -> int | None:
    """Return the number of "CUDA failure 700: ...", None where there is none."""
    _, found, rest = low.partition(_FAILURE)
    digits = rest.split(":", 1)[0].strip()
    return int(digits) if found and digits.isdecimal() else None
