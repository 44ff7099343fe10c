"""What an error of a run tells of, from texts as ONNX Runtime writes them."""

from __future__ import annotations

import pytest

from service.faults import fault_of

ARENA = (
    "Non-zero status code returned while running Conv node. Status Message: bfc_arena.cc:360 "
    "void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, Stream*) Failed to allocate "
    "memory for requested buffer of size 4398046511104"
)


@pytest.mark.parametrize(
    ("text", "kind", "fault"),
    [
        (ARENA, "RuntimeException", "memory"),
        ("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc", "Fail", "memory"),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", "Fail", "memory"),
        ("std::bad_alloc", "RuntimeException", "memory"),
        ("", "MemoryError", "memory"),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", "Fail", "device"),
        ("CUDA failure 719: unspecified launch failure ; GPU=0", "Fail", "device"),
        ("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0", "Fail", "device"),
        ("", "DeviceReset", "device"),
        # An allocation that fails because the device is gone.
        (f"CUDA failure 46: device busy ; {ARENA}", "Fail", "device"),
        ("Exiting due to terminate flag being set to true.", "Fail", "stopped"),
        ("indices element out of data bounds, idx=7", "InvalidArgument", "other"),
        ("CUDA failure 1: invalid argument ; GPU=0", "Fail", "other"),
        ("CUDA failure 7000: not a code", "Fail", "other"),
        ("CUDA failure : no number", "Fail", "other"),
    ],
)
def test_the_kind_of_trouble(text: str, kind: str, fault: str) -> None:
    """Memory may come back; a lost device does not."""
    assert fault_of(text, kind) == fault
