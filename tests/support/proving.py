"""Children that prove nothing: a test says how each proof ends."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from service.admission import Json, Limits, Outcome
from service.sealed import Sealer

REFUSED = Outcome("golden_mismatch", "not as recorded")


class FakeProver:
    """A child; its proof ends when the test says so."""

    def __init__(self) -> None:
        """Begin without an order."""
        self.order: Json | None = None
        self.limits: Limits | None = None
        self.ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.discarded = False

    async def prove(self, order: Json, limits: Limits) -> Outcome:
        """Wait for the test."""
        self.order, self.limits = order, limits
        return await self.ended

    def kill(self) -> None:
        """End as a child does that is killed."""
        if not self.ended.done():
            self.ended.set_result(Outcome("load_memory", "killed"))

    async def discard(self) -> None:
        """Note it."""
        self.discarded = True


class Provers:
    """Starts such children and keeps them in the order of their start."""

    def __init__(self) -> None:
        """Begin with none."""
        self.all: list[FakeProver] = []

    def __call__(self) -> FakeProver:
        """Start one."""
        self.all.append(FakeProver())
        return self.all[-1]

    @property
    def ordered(self) -> list[FakeProver]:
        """Those that have an order."""
        return [one for one in self.all if one.order is not None]

    def end(self, outcome: Outcome) -> None:
        """Let the first proof end that is under way."""
        next(one for one in self.ordered if not one.ended.done()).ended.set_result(outcome)


def admitted(file: Path) -> Outcome:
    """Return the outcome for a version that is one file."""
    sealer = Sealer(file.parent, max_bytes=1 << 20)
    one = sealer.add(file.name)
    sealed = sealer.seal()
    assert sealed.descriptor is not None
    report = {
        "root": os.fspath(file.parent),
        "files": [{"name": one.name, "stamp": one.stamp}],
        "digest": one.sha256,
    }
    return replace(Outcome(), report=report, descriptor=sealed.descriptor)


def is_open(descriptor: int) -> bool:
    """Whether a descriptor of this process is open."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
