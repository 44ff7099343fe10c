"""bfloat16 in and out of ONNX Runtime, whose numpy side lacks it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from service.errors import BundleError
from service.refusals import Refusal
from service.tensors import BFLOAT16, Tensor, Tensors, TensorSpec

_ONNX_BFLOAT16 = 16


def bfloats_of(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> frozenset[str]:
    """Return the names of all bfloat16 inputs and outputs, which ONNX Runtime's numpy side lacks.

    Raises BundleError where they could never be run: texts are only taken by way of numpy.
    """
    texts = [spec.name for spec in inputs if spec.datatype == "BYTES"]
    names = [spec.name for spec in outputs if spec.datatype == "BF16"]
    if texts and names:
        raise BundleError(
            f"output '{names[0]}': ONNX Runtime does not return bfloat16 to a caller that sends "
            f"texts (input '{texts[0]}')",
            Refusal.UNSUPPORTED_TYPE,
        )
    return frozenset(s.name for s in (*inputs, *outputs) if s.datatype == "BF16")


def run_bfloats(
    session: ort.InferenceSession,
    inputs: Tensors,
    wanted: Sequence[str],
    bfloats: frozenset[str],
    options: ort.RunOptions | None,
) -> list[Tensor]:
    """Run a graph with bfloat16 at its edge; such inputs go in as their bits, without a copy."""
    values = {
        name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            np.asarray(value, order="C").view(np.uint16), _ONNX_BFLOAT16
        )
        for name, value in inputs.items()
        if name in bfloats
    }
    if bfloats.isdisjoint(wanted):
        found: list[Tensor] = session.run(list(wanted), {**inputs, **values}, options)
        return found
    for name in inputs.keys() - values.keys():
        values[name] = ort.OrtValue.ortvalue_from_numpy(np.asarray(inputs[name], order="C"))
    # `run_with_ort_values` does the same, but its result takes 50 us to read.
    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name in wanted:
        binding.bind_output(name)
    session.run_with_iobinding(binding, options)
    return [
        _bits(output) if name in bfloats else output.numpy()
        for name, output in zip(wanted, binding.get_outputs(), strict=True)
    ]


def _bits(output: ort.OrtValue) -> Tensor:
    """Copy a bfloat16 tensor out of ONNX Runtime's own memory."""
    raw = ctypes.string_at(output.data_ptr(), output.tensor_size_in_bytes())
    return np.frombuffer(raw, BFLOAT16).reshape(output.shape())
