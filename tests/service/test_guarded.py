"""Loads and runs that leave a mark, and versions that are not tried again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from service.blackbox import BlackBox, Mark, make_memory, read_marks
from service.control import Culprit
from service.engine import Stop
from service.errors import BundleError, Quarantined
from service.fingerprints import fingerprint_of
from service.guarded import Quarantine
from service.loader import Loaded, LoadOptions
from service.pipeline import make_pipeline
from service.repository import Found, scan
from service.tensors import Tensor, Tensors
from tests.support.loads import CONTRACT, GatedEngine, put_model


@pytest.fixture
def memory() -> Iterator[int]:
    """Return the memory of one worker."""
    descriptor = make_memory()
    yield descriptor
    os.close(descriptor)


class Watching(GatedEngine):
    """An engine that notes what the memory says while it runs."""

    def __init__(self, memory: int) -> None:
        """Begin with nothing seen."""
        super().__init__(1, 1)
        self.seen: list[Mark] = []
        self._memory = memory

    def run(
        self, inputs: Tensors, wanted: Sequence[str], stop: Stop | None = None
    ) -> dict[str, Tensor]:
        """Look, then answer."""
        self.seen += read_marks(self._memory)
        return super().run(inputs, wanted)


class Loader:
    """Stands in for the loader; notes what the memory says while it gets ready and loads."""

    def __init__(self, memory: int) -> None:
        """Begin with nothing seen."""
        self.before: list[Mark] = []
        self.seen: list[Mark] = []
        self.engine = Watching(memory)
        self.breaks = False
        self._memory = memory

    def prepare(
        self,
        found: Found,
        options: LoadOptions,
        fingerprint: str,
        on_step: Callable[[str], None],
    ) -> Callable[[], Loaded]:
        """Look, and return what loads."""
        del found, options, fingerprint, on_step
        self.before += read_marks(self._memory)
        return self.load

    def load(self) -> Loaded:
        """Look, then load."""
        self.seen += read_marks(self._memory)
        if self.breaks:
            raise BundleError("broken")
        return Loaded(CONTRACT, make_pipeline(CONTRACT), self.engine, {})


def load(quarantine: Quarantine, found: Found) -> Loaded:
    """Load a version."""
    return quarantine.load(found, LoadOptions(), lambda _: None)


def found_in(repository: Path) -> Found:
    """Return the only model of a new repository."""
    put_model(repository)
    return scan(repository)[0]


def culprit(found: Found) -> Culprit:
    """Return the version as one that ended its worker too often."""
    return Culprit(found.name, found.version, fingerprint_of(found.path), "it died")


def test_marks_are_there_while_it_lasts(tmp_path: Path, memory: int) -> None:
    """During the load and each run, not between them, and not while another process proves."""
    loader, found = Loader(memory), found_in(tmp_path)
    loaded = load(Quarantine(BlackBox(memory), prepare=loader.prepare), found)
    assert loader.before == []
    assert [(mark.model, mark.loading) for mark in loader.seen] == [("m", True)]
    assert read_marks(memory) == []
    loaded.engine.run({"x": np.zeros((1, 1), np.float32)}, ["y"])
    (mark,) = loader.engine.seen
    assert (mark.model, mark.version, mark.loading) == ("m", 1, False)
    assert mark.fingerprint == fingerprint_of(found.path)
    assert read_marks(memory) == []
    loaded.engine.close()
    assert loader.engine.closed.is_set()


def test_a_load_that_fails_leaves_no_mark(tmp_path: Path, memory: int) -> None:
    """An error is no death."""
    loader = Loader(memory)
    loader.breaks = True
    with pytest.raises(BundleError):
        load(Quarantine(BlackBox(memory), prepare=loader.prepare), found_in(tmp_path))
    assert read_marks(memory) == []


def test_a_culprit_is_not_loaded_until_its_files_change(tmp_path: Path, memory: int) -> None:
    """The reason is what the others are told, too; new files are a new version."""
    loader, found = Loader(memory), found_in(tmp_path)
    quarantine = Quarantine(BlackBox(memory), [culprit(found)], prepare=loader.prepare)
    with pytest.raises(Quarantined, match="it died"):
        load(quarantine, found)
    assert loader.seen == []
    found.model_file.write_bytes(b"another model")
    load(quarantine, found)
    assert len(loader.seen) == 1


def test_what_is_loaded_is_told_from_what_was_condemned(tmp_path: Path, memory: int) -> None:
    """Only the very files that killed are taken out of service."""
    found = found_in(tmp_path)
    quarantine = Quarantine(BlackBox(memory), prepare=Loader(memory).prepare)
    assert not quarantine.condemn(culprit(found))
    quarantine.pardon("m")
    load(quarantine, found)
    assert quarantine.condemn(culprit(found))
    assert not quarantine.condemn(Culprit("m", 1, "other files", "it died"))


def test_who_is_pardoned_is_tried_again(tmp_path: Path, memory: int) -> None:
    """And nobody else."""
    found = found_in(tmp_path)
    quarantine = Quarantine(BlackBox(memory), [culprit(found)], prepare=Loader(memory).prepare)
    quarantine.pardon("other")
    with pytest.raises(Quarantined):
        load(quarantine, found)
    quarantine.pardon("m")
    load(quarantine, found)
