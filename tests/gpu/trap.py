"""Break the GPU of this process: a kernel that ends in a trap, through the driver's own functions.

``python -m tests.gpu.trap model.onnx`` runs the model, breaks the device, runs it again and prints
the kind of error; the process is of no use afterwards, as is meant.
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from service.engine import EngineOptions, OrtEngine
from service.errors import DeviceLost, ServiceError

_KERNEL = b""".version 7.0
.target sm_50
.address_size 64
.visible .entry broken() { trap; }
\0"""


def break_device() -> int:
    """Launch the kernel in the context that ONNX Runtime uses, and return the driver's answer."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    for code in (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        cuda.cuCtxSetCurrent(context),
        cuda.cuModuleLoadData(ctypes.byref(module), _KERNEL),
        cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"broken"),
        cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, None, None, None),
    ):
        assert code == 0, f"the driver answers {code}"
    return int(cuda.cuCtxSynchronize())


def main() -> None:
    """Run, break, and run again."""
    engine = OrtEngine(sys.argv[1], EngineOptions(("cuda",)))
    rows = {"x": np.ones((2, 2), np.float32)}
    engine.run(rows, ["y"])
    assert break_device() != 0
    for _ in range(2):
        try:
            engine.run(rows, ["y"])
        except DeviceLost:
            sys.stdout.write("lost\n")
        except ServiceError as error:
            sys.stdout.write(f"{type(error).__name__}: {error.__cause__}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
