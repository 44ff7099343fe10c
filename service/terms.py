"""What a live model asks of a call and gives back, worked out once instead of once a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.contract import Contract
from service.errors import InvalidRequest
from service.tensors import Tensors, TensorSpec, check


@dataclass(frozen=True, slots=True)
class Terms:
    """The sides of a contract that every V2 call meets.

    ``outputs`` are the tensors that are returned where none is named, and ``left_out`` what only
    V1 can carry: sequences, maps, optional values.  ``labels`` names the classes of an output.
    """

    specs: tuple[TensorSpec, ...]
    batchable: bool
    outputs: tuple[str, ...]
    left_out: tuple[str, ...]
    labels: Mapping[str, Sequence[str]]
    types: Mapping[str, str] = field(repr=False)
    _row_inputs: tuple[str, ...] = field(repr=False)
    _optional: frozenset[str] = field(repr=False)

    @classmethod
    def of(cls, contract: Contract) -> Terms:
        """Return what a contract says."""
        specs, outputs = contract.input_specs, contract.output_specs
        labels = {} if contract.labels is None else {contract.answer.name: contract.labels}
        return cls(
            specs=tuple(specs),
            batchable=contract.batchable,
            outputs=tuple(spec.name for spec in outputs if spec.is_tensor),
            left_out=tuple(spec.name for spec in outputs if not spec.is_tensor),
            labels=labels,
            types={spec.name: spec.datatype for spec in outputs},
            _row_inputs=tuple(s.name for s in specs if s.leads_with_batch and not s.optional),
            _optional=frozenset(spec.name for spec in specs if spec.optional),
        )

    def check(self, inputs: Tensors) -> int:
        """Return the rows of a call; raises InvalidRequest unless its tensors are as specified."""
        check(inputs, self.specs)
        return self.count_rows(inputs)

    def count_rows(self, inputs: Tensors) -> int:
        """Return the rows of a call: the size of the batch axis, or 1 where there is none.

        Raises InvalidRequest where rows are to be batched, but the inputs differ in their number:
        a graph need not name its batch axes, and joined with other jobs the rows would be shifted.
        """
        names = self._row_inputs
        if not names:
            return 1
        rows = len(inputs[names[0]])
        if self.batchable and any(len(inputs[name]) != rows for name in names):
            seen = [len(inputs[name]) for name in names]
            raise InvalidRequest(f"inputs {list(names)}: {seen} rows, must be the same number")
        return rows

    def is_alone(self, inputs: Tensors) -> bool:
        """Whether a call gives an optional input, which belongs to no row and so to no other."""
        return bool(self._optional) and not self._optional.isdisjoint(inputs)

    def wanted(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """Return the outputs to ask the graph for, in its order; without names all its tensors.

        Raises InvalidRequest for a name that the model lacks or that is no tensor.
        """
        if not names and self.outputs:
            return self.outputs
        known = ", ".join(f"'{name}'" for name in self.outputs) or "none that is a tensor"
        for name in names or self.left_out:
            if name not in self.types:
                raise InvalidRequest(
                    f"output '{name}': the model has no such output; it has {known}"
                )
            if name in self.left_out:
                raise InvalidRequest(
                    f"output '{name}': {self.types[name]} is no tensor, which this protocol cannot "
                    f"carry; it can carry {known}, and :predict (V1) answers all"
                )
        return tuple(name for name in self.outputs if name in (names or ()))
