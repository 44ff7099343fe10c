"""Runs of fixed sizes over tensors that keep their place, so that a device can replay them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from service.providers import Placement
from service.tensors import DATATYPES, Tensor, Tensors, TensorSpec

_GRAPH_ID = "gpu_graph_id"
_NO_GRAPH = "-1"
# What numpy and ONNX Runtime keep in the same bytes.
_FIXED_WIDTH = frozenset(DATATYPES) - {"BF16", "BYTES"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where tensors stay: a kind of device in ONNX Runtime's spelling, and its number."""

    kind: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class _Bound:
    """The tensors of one size, and the number under which its run is recorded."""

    binding: ort.IOBinding
    inputs: dict[str, ort.OrtValue]
    outputs: dict[str, ort.OrtValue]
    graph: str


def why_not_recorded(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], placement: Placement
) -> str:
    """Return why runs of a model cannot be recorded, "" if they can.

    A recorded run is the same kernels over the same addresses: nothing may be on the CPU, and no
    size may depend on anything but the number of rows.
    """
    if placement.nodes.get("cpu"):
        operators = ", ".join(placement.on_cpu)
        return f"{placement.nodes['cpu']} nodes are on the CPU: {operators}"
    for spec in (*inputs, *outputs):
        if spec.optional or not spec.leads_with_batch:
            return f"'{spec.name}' has no axis of rows that every call has"
        if spec.shape[0] != inputs[0].shape[0]:
            return f"the rows of '{spec.name}' are not counted as those of '{inputs[0].name}' are"
        if any(isinstance(size, str) or size < 0 for size in spec.shape[1:]):
            return f"'{spec.name}' has a free axis beside its rows: {list(spec.shape)}"
        if spec.datatype not in _FIXED_WIDTH:
            return f"'{spec.name}' is {spec.datatype}, which has no place on a device"
    return ""


class FixedRuns:
    """The runs of one session; those of a prepared size use tensors made beforehand.

    Not to be used by several threads at once.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        place: Place,
    ) -> None:
        """Keep the session; nothing is prepared."""
        self._session = session
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._place = place
        self._bound: dict[int, _Bound] = {}

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of rows that are prepared."""
        return tuple(sorted(self._bound))

    def prepare(self, rows: int) -> None:
        """Make the tensors of a size, once."""
        if rows in self._bound:
            return
        binding = self._session.io_binding()
        inputs = {spec.name: self._tensor(spec, rows) for spec in self._inputs}
        outputs = {spec.name: self._tensor(spec, rows) for spec in self._outputs}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        # 0 is ONNX Runtime's own.
        self._bound[rows] = _Bound(binding, inputs, outputs, str(len(self._bound) + 1))

    def _tensor(self, spec: TensorSpec, rows: int) -> ort.OrtValue:
        shape = (rows, *(int(size) for size in spec.shape[1:]))
        dtype = DATATYPES[spec.datatype].numpy
        return ort.OrtValue.ortvalue_from_shape_and_type(
            shape, dtype, self._place.kind, self._place.index
        )

    def run(
        self, inputs: Tensors, wanted: Sequence[str], options: ort.RunOptions | None = None
    ) -> list[Tensor]:
        """Return the wanted outputs; a size that is not prepared is run without a record."""
        options = options or ort.RunOptions()
        bound = self._bound.get(len(next(iter(inputs.values()))))
        options.add_run_config_entry(_GRAPH_ID, bound.graph if bound else _NO_GRAPH)
        if bound is None:
            return list(self._session.run(list(wanted), dict(inputs), options))
        for name, value in bound.inputs.items():
            value.update_inplace(np.ascontiguousarray(inputs[name]))
        self._session.run_with_iobinding(bound.binding, options)
        # Copies, on the CPU too, where they would else change under the reader's hands.
        return [np.array(bound.outputs[name].numpy()) for name in wanted]
