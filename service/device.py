"""A model on a device: runs of few sizes, memory that runs out, and a device that is lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.engine import Engine, EngineAround, Stop
from service.errors import DeviceFull, DeviceLost, OutOfMemory
from service.tensors import Tensor, Tensors, stack

_log = logging.getLogger("onnxport.device")
# Runs without trouble after which a cap that was lowered is doubled again: who else needed the
# memory may have gone.
_GOOD_RUNS = 1000


@dataclass(frozen=True, slots=True)
class Cap:
    """The most rows of a run: as configured, as memory allows now, and the good runs since then."""

    most: int
    now: int
    good: int = 0

    def lowered(self, rows: int) -> Cap:
        """Return the cap after a run of so many rows did not fit."""
        return replace(self, now=max(1, min(self.now, rows) // 2), good=0)

    def confirmed(self) -> Cap:
        """Return the cap after a run that did fit."""
        if self.now >= self.most:
            return self
        if self.good + 1 < _GOOD_RUNS:
            return replace(self, good=self.good + 1)
        return Cap(self.most, min(self.most, 2 * self.now))


def size_for(rows: int, most: int) -> int:
    """Return the number of rows that a run is padded to: the next power of two, or the most."""
    return min(most, 1 << max(0, rows - 1).bit_length()) if rows <= most else rows


def padded(inputs: Tensors, rows: int) -> dict[str, Tensor]:
    """Return tensors of so many rows; the last row is repeated, since it is known to be valid."""
    return {
        name: np.concatenate([value, np.repeat(value[-1:], rows - len(value), axis=0)])
        if len(value) < rows
        else value
        for name, value in inputs.items()
    }


def _part(inputs: Tensors, start: int, end: int) -> dict[str, Tensor]:
    return {name: value[start:end] for name, value in inputs.items()}


class DeviceHealth:
    """Whether this process can still use its device; once lost, it is for ever."""

    def __init__(self) -> None:
        """Begin with a device that works."""
        self._lock = threading.Lock()
        self._tell: list[Callable[[str], None]] = []
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why the device is lost, "" while it is not."""
        return self._reason

    def on_loss(self, tell: Callable[[str], None]) -> None:
        """Call this once with the reason, on whatever thread finds out."""
        with self._lock:
            self._tell.append(tell)

    def lose(self, reason: str) -> None:
        """Note that the device is lost; only the first time counts."""
        with self._lock:
            if self._reason:
                return
            self._reason = reason
            listeners = tuple(self._tell)
        _log.critical("%s; this process can use it no more", reason)
        for tell in listeners:
            tell(reason)

    def check(self) -> None:
        """Raise DeviceLost if it is lost: what a broken device answers may be wrong."""
        if self._reason:
            raise DeviceLost(self._reason)


class DeviceEngine(EngineAround):
    """An engine on a device; its runs come from one thread at a time.

    Runs have few sizes, so that plans and graphs made for a size are used again.  A run that does
    not fit into memory is tried once more by halves after the arena has shrunk; what does not fit
    then raises DeviceFull, and either way later runs are smaller.
    """

    def __init__(
        self, engine: Engine, health: DeviceHealth, *, max_rows: int, batchable: bool
    ) -> None:
        """Keep the engine; rows are only joined, cut and padded where they are ``batchable``."""
        super().__init__(engine)
        self._health = health
        self._cap = Cap(max_rows, max_rows)
        self._row_inputs = frozenset(spec.name for spec in engine.inputs) if batchable else None

    @property
    def rows_cap(self) -> int:
        """The most rows of one run at present."""
        return self._cap.now

    def run(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None
    ) -> dict[str, Tensor]:
        """Run the graph; raises DeviceLost, for every run from then on, or DeviceFull."""
        self._health.check()
        try:
            rows = self._rows(inputs)
            if rows == 0:
                return self._whole(inputs, wanted, stop)
            parts = []
            start = 0
            while start < rows:
                # What a part has taught of the memory holds for the next one.
                end = min(rows, start + self._cap.now)
                parts.append(self._piece(_part(inputs, start, end), wanted, stop))
                start = end
        except DeviceLost as error:
            self._health.lose(str(error))
            raise
        return parts[0] if len(parts) == 1 else stack(parts)

    def _rows(self, inputs: Tensors) -> int:
        """Return the rows of a call whose inputs all have them, else 0."""
        if self._row_inputs is None or self._row_inputs != set(inputs):
            return 0
        return min(len(value) if value.ndim else 0 for value in inputs.values())

    def _whole(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None
    ) -> dict[str, Tensor]:
        """Run a call that has no rows to be cut; it gets a second try with a smaller arena."""
        try:
            return self._engine.run(inputs, wanted, stop)
        except OutOfMemory:
            return self._again(inputs, wanted, stop)

    def _piece(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None
    ) -> dict[str, Tensor]:
        rows = min(map(len, inputs.values()))
        try:
            outputs = self._sized(inputs, wanted, rows, stop)
        except OutOfMemory:
            self._lower(rows)
            return self._by_halves(inputs, wanted, rows, stop)
        self._cap = self._cap.confirmed()
        return outputs

    def _sized(
        self, inputs: Tensors, wanted: Sequence[str], rows: int, stop: Stop | None
    ) -> dict[str, Tensor]:
        size = size_for(rows, self._cap.now)
        outputs = self._engine.run(padded(inputs, size), wanted, stop)
        if size == rows:
            return outputs
        # Who gets other rows back than went in is told so by what looks at all runs.
        return {n: v[:rows] if v.ndim and len(v) == size else v for n, v in outputs.items()}

    def _lower(self, rows: int) -> None:
        self._cap = self._cap.lowered(rows)
        _log.warning("a run of %d rows does not fit into memory; now %d", rows, self._cap.now)

    def _by_halves(
        self, inputs: Tensors, wanted: Sequence[str], rows: int, stop: Stop | None
    ) -> dict[str, Tensor]:
        """Try once more: one row, at whose end the arena shrinks, then the two halves."""
        alone = self._again(_part(inputs, 0, 1), wanted, stop)
        if rows == 1:
            return alone
        half = -(-rows // 2)
        try:
            halves = [
                self._again(_part(inputs, start, start + half), wanted, stop) for start in (0, half)
            ]
        except DeviceFull:
            self._lower(half)
            raise
        return stack(halves)

    def _again(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None
    ) -> dict[str, Tensor]:
        stop = stop or Stop()
        stop.give_back = True
        try:
            return self._engine.run(inputs, wanted, stop)
        except OutOfMemory as error:
            raise DeviceFull("the device has no memory left for this run; try again") from error


def on_device(engine: Engine, health: DeviceHealth, *, max_rows: int, batchable: bool) -> Engine:
    """Return what is run: on the CPU the engine itself, whose runs may have any size."""
    if engine.provider == "cpu":
        return engine
    return DeviceEngine(engine, health, max_rows=max_rows, batchable=batchable)
