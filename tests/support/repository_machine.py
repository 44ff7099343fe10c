"""A repository that is changed at random, and what a server must make of it."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from service.errors import BundleError, LoadRefused, ModelNotFound, ModelNotReady, NotInRepository
from service.lease import Lease
from service.lifecycle import State
from service.loader import Loaded, LoadOptions
from service.pipeline import make_pipeline
from service.planning import Asked, Control
from service.repository import Found
from tests.support.loads import CONTRACT, PATIENCE, GatedEngine, rig, settled

T = TypeVar("T")
ALL = Control("explicit", ("*",))
GOOD, BAD, DEADLY = "good", "bad", "deadly"
VERSIONS = st.integers(1, 4)


class Unforeseen(Exception):
    """Something that no load should raise."""


class FileLoads:
    """Stands in for `load_model`: the file says what becomes of its load, and what it answers."""

    def __init__(self) -> None:
        """Begin with nothing open."""
        self.engines: list[GatedEngine] = []
        self._lock = threading.Lock()

    def __call__(
        self, found: Found, options: LoadOptions, on_step: Callable[[str], None]
    ) -> Loaded:
        """Load."""
        on_step("VERIFYING")
        if found.problem:
            raise BundleError(found.problem)
        kind, number = found.model_file.read_text().split()[:2]
        if kind == DEADLY:
            raise Unforeseen
        if kind == BAD:
            raise BundleError(f"{number} is bad")
        engine = GatedEngine(int(number), found.version)
        with self._lock:
            self.engines.append(engine)
        return Loaded(CONTRACT, make_pipeline(CONTRACT), engine, {"kind": "fake"})

    @property
    def open(self) -> list[int]:
        """The numbers of the engines that are open."""
        return [engine.number for engine in self.engines if not engine.closed.is_set()]


class RepositoryMachine(RuleBasedStateMachine):
    """Adds, damages, repairs and removes versions; polls, loads, unloads, asks and crashes.

    What should be served is kept in plain values: the newest version if it is good, else what was
    served before.  Only the newest version is wanted.
    """

    leases: Bundle[Lease] = Bundle("leases")

    def __init__(self) -> None:
        """Open a runtime over an empty repository."""
        super().__init__()
        self.folder = Path(mkdtemp())
        (self.folder / "m").mkdir()
        self.serial = count(1)
        self.disk: dict[int, tuple[str, int]] = {}
        # The version that answers and with what number, None where nothing does.
        self.served: tuple[int, int] | None = None
        self.held: list[Lease] = []
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self._start(Asked())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    def _start(self, asked: Asked) -> None:
        self.loads = FileLoads()
        self.stack = AsyncExitStack()
        opened = rig(self.folder, ALL, load=self.loads, asked=asked)
        self.made = self._do(self.stack.enter_async_context(opened))

    def _write(self, version: int, kind: str) -> None:
        number = next(self.serial)
        file = self.folder / "m" / str(version) / "model.onnx"
        file.parent.mkdir(exist_ok=True)
        # Each longer than all before, so that no clock is needed to tell them apart.
        file.write_text(f"{kind} {number}".ljust(100 + number))
        self.disk[version] = (kind, number)

    @rule(version=VERSIONS, kind=st.sampled_from([GOOD, GOOD, BAD, DEADLY]))
    def write(self, version: int, kind: str) -> None:
        """Add a version, damage it or repair it."""
        self._write(version, kind)

    @rule(version=VERSIONS)
    def remove(self, version: int) -> None:
        """Remove a version."""
        if self.disk.pop(version, None) is not None:
            shutil.rmtree(self.folder / "m" / str(version))

    def _newest(self) -> tuple[int, str, int] | None:
        return max(((v, *content) for v, content in self.disk.items()), default=None)

    def _expect(self, *, forced: bool = False) -> bool:
        """Note what is served once the disk has been followed; whether that must be refused."""
        newest = self._newest()
        if newest is None:
            if not forced:
                self.served = None
            return forced
        version, kind, number = newest
        if kind == GOOD:
            self.served = (version, number)
        return kind != GOOD

    @rule(retry=st.booleans())
    def poll(self, *, retry: bool) -> None:
        """Follow the disk."""
        refused = self._expect()
        assert self._refuses(self.made.reloader.sync("m", retry=retry)) == refused

    @rule()
    def load(self) -> None:
        """Load by request, whether anything has changed or not."""
        refused = self._expect(forced=True)
        assert self._refuses(self.made.reloader.load("m")) == refused

    def _refuses(self, work: Coroutine[Any, Any, None]) -> bool:
        try:
            self._do(work)
        except (LoadRefused, NotInRepository, Unforeseen):
            return True
        return False

    @rule()
    def unload(self) -> None:
        """Unload by request."""
        self._do(self.made.reloader.unload("m"))
        self.served = None

    @rule()
    def infer(self) -> None:
        """Ask without a version."""
        try:
            answer = self._do(self.made.infer())
        except (ModelNotFound, ModelNotReady):
            assert self.served is None
        else:
            assert self.served is not None
            assert answer == self.served[1]

    @rule(target=leases)
    def hold(self) -> Any:
        """Take the right to use what is served, and keep it for a while."""
        if self.served is None:
            return None
        lease = self.made.registry.lease("m")
        self.held.append(lease)
        return lease

    @rule(lease=consumes(leases))
    def release(self, lease: Lease) -> None:
        """Give a right back that is still worth something."""
        if lease in self.held:
            self._release(lease)

    def _release(self, lease: Lease) -> None:
        engine = lease.model.loaded.engine
        assert isinstance(engine, GatedEngine)
        assert not engine.closed.is_set()
        self.held.remove(lease)
        lease.release()

    @rule()
    def crash(self) -> None:
        """Lose the process; a new one begins with what was served, whatever else is there."""
        for lease in list(self.held):
            self._release(lease)
        serving = set() if self.served is None else {("m", self.served[0])}
        self._do(self.stack.aclose())
        newest = self._newest()
        begins = None if self.served is None else self.disk.get(self.served[0])
        if begins is not None and self.served is not None:
            self.served = (self.served[0], begins[1]) if begins[0] == GOOD else None
        elif newest is not None and newest[1] == GOOD:
            self.served = (newest[0], newest[2])
        else:
            self.served = None
        self._start(Asked(serving=serving))

    @invariant()
    def what_is_ready_is_what_should_be(self) -> None:
        """One version at most, and the right one."""
        ready = [v.version for v in self.made.registry.views() if v.state is State.READY]
        assert ready == ([] if self.served is None else [self.served[0]])

    @invariant()
    def nothing_stays_open(self) -> None:
        """What is neither served nor held is closed."""
        if not self.held:
            self._do(settled(self.made))
            assert self.loads.open == ([] if self.served is None else [self.served[1]])

    def teardown(self) -> None:
        """Close everything."""
        for lease in list(self.held):
            self._release(lease)
        self._do(self.stack.aclose())
        assert self.loads.open == []
        self.loop.close()
        shutil.rmtree(self.folder)
