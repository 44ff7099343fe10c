"""Loads and runs that leave a mark while they last, and versions that are not tried again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from service.admitted import Prepare, here
from service.blackbox import RUNNING, BlackBox, label_of
from service.control import Culprit
from service.engine import Engine, EngineAround, Stop
from service.errors import Quarantined
from service.fingerprints import fingerprint_of
from service.loader import Loaded, LoadOptions
from service.repository import Found
from service.tensors import Tensor, Tensors


class GuardedEngine(EngineAround):
    """An engine whose runs are seen from outside the process."""

    def __init__(self, engine: Engine, box: BlackBox, label: bytes) -> None:
        """Keep the engine and what its slot says while it runs."""
        super().__init__(engine)
        self._box = box
        self._label = label

    def run(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None
    ) -> dict[str, Tensor]:
        """Run the engine with its mark set."""
        slot = self._box.begin(RUNNING, self._label)
        try:
            return self._engine.run(inputs, wanted, stop)
        finally:
            self._box.end(slot)


class Quarantine:
    """What a worker knows of versions that end processes; ``load`` takes the loader's place.

    ``prepare`` does what comes before this process is at risk: another one proves the version.
    """

    def __init__(
        self, box: BlackBox, culprits: Sequence[Culprit] = (), *, prepare: Prepare = here
    ) -> None:
        """Keep the memory to write to and what must not be loaded."""
        self._box = box
        self._prepare = prepare
        # Changed on the event loop, read by the threads that load.
        self._culprits = {(c.model, c.version): c for c in culprits}
        self._fingerprints: dict[tuple[str, int], str] = {}

    def condemn(self, culprit: Culprit) -> bool:
        """Load a version no more while its files stay; whether those are what is loaded now."""
        key = (culprit.model, culprit.version)
        self._culprits[key] = culprit
        return self._fingerprints.get(key) == culprit.fingerprint

    def pardon(self, model: str) -> None:
        """Let the versions of a model be tried again."""
        self._culprits = {key: c for key, c in self._culprits.items() if key[0] != model}

    def load(self, found: Found, options: LoadOptions, on_step: Callable[[str], None]) -> Loaded:
        """Load a version with its mark set; raises Quarantined for one that is not to be tried."""
        key = (found.name, found.version)
        fingerprint = fingerprint_of(found.path)
        culprit = self._culprits.get(key)
        if culprit is not None and culprit.fingerprint == fingerprint:
            raise Quarantined(culprit.reason)
        label = label_of(found.name, found.version, fingerprint)
        open_it = self._prepare(found, options, fingerprint, on_step)
        self._fingerprints[key] = fingerprint
        with self._box.loading(label):
            loaded = open_it()
        return replace(loaded, engine=GuardedEngine(loaded.engine, self._box, label))
