"""Each version is proved once for all workers, and what was admitted is kept for those to come."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from service.admission import Json, Limits, Outcome, Prover
from service.sealed import stamp_of

_log = logging.getLogger("onnxport.admission")
_ENDING: Final = Outcome("model_not_ready", "the server is shutting down")
Key = tuple[str, int]


class Proving(Protocol):
    """What the gate needs of a child."""

    async def prove(self, order: Json, limits: Limits) -> Outcome:
        """Have a version proved; the child is gone afterwards."""
        ...

    def kill(self) -> None:
        """End the child."""
        ...

    async def discard(self) -> None:
        """End a child that got no order."""
        ...


@dataclass(slots=True, eq=False)
class _Case:
    """One version as it was asked for: the same ``claim`` means the same files and options.

    ``told`` are the processes that have had the outcome; ``seen`` says that one of them serves it.
    """

    claim: str
    work: asyncio.Task[Outcome]
    told: set[object] = field(default_factory=set)
    seen: bool = False

    @property
    def outcome(self) -> Outcome | None:
        """The outcome, None while it is not known."""
        return self.work.result() if self.work.done() and not self.work.cancelled() else None


class Gate:
    """The versions that were asked for; changed only on the supervisor's event loop.

    While it ``hurries``, after `warm_up`, nobody is served yet, and proofs need not stand back.
    """

    def __init__(
        self, limits: Limits, *, at_once: int, start: Callable[[], Proving] = Prover
    ) -> None:
        """Begin with nothing proved; ``at_once`` proofs run side by side."""
        self._limits = limits
        self._start = start
        self._room = asyncio.Semaphore(at_once)
        self._cases: dict[Key, _Case] = {}
        self._admitted: dict[Key, _Case] = {}
        self._idle: list[Proving] = []
        self._busy: set[Proving] = set()
        self.hurries = False
        self._closed = False

    def warm_up(self, count: int) -> None:
        """Start children before there is an order for them: that takes them half a second."""
        self.hurries = True
        while len(self._idle) < count:
            self._idle.append(self._start())

    async def cool_down(self) -> None:
        """End the children that nobody has needed; from now on there is somebody to be served."""
        self.hurries = False
        idle, self._idle = self._idle, []
        for prover in idle:
            await prover.discard()

    async def ask(
        self, key: Key, claim: str, order: Json, *, asker: object, again: bool = False
    ) -> Outcome:
        """Return what a proof has shown, of this claim or one that still holds.

        Askers share it.  One that comes back after a refusal has it tried again.  One that starts
        ``again``, in place of a process that has died, gets what the others serve.
        """
        kept = self._admitted.get(key)
        if again and kept is not None:
            return await self._shared(kept, asker)
        case = self._cases.get(key)
        if case is None or case.claim != claim or not self._holds(case, asker):
            case = self._cases[key] = self._begun(key, claim, order)
        while True:
            outcome = await self._shared(case, asker)
            latest = self._cases.get(key, case)
            if latest is case:
                break
            # The files changed meanwhile, and somebody has asked for what they are now.
            case = latest
        if outcome.admitted:
            self._replace(key, case)
        return outcome

    def _begun(self, key: Key, claim: str, order: Json) -> _Case:
        case = _Case(claim, asyncio.create_task(self._prove(key, order)))

        def ended(work: asyncio.Task[Outcome]) -> None:
            del work
            if self._cases.get(key) is not case:
                _release(case)

        case.work.add_done_callback(ended)
        return case

    async def _shared(self, case: _Case, asker: object) -> Outcome:
        case.told.add(asker)
        return await asyncio.shield(case.work)

    def _holds(self, case: _Case, asker: object) -> bool:
        outcome = case.outcome
        if outcome is None:
            return not case.work.done()
        if not outcome.admitted:
            return asker not in case.told
        return _unchanged(outcome.report)

    def _replace(self, key: Key, case: _Case) -> None:
        before = self._admitted.get(key)
        self._admitted[key] = case
        if before is not None and before is not case:
            _release(before)

    async def _prove(self, key: Key, order: Json) -> Outcome:
        async with self._room:
            if self._closed:
                return _ENDING
            prover = self._idle.pop() if self._idle else self._start()
            self._busy.add(prover)
            limits = replace(self._limits, nice=0) if self.hurries else self._limits
            try:
                outcome = await prover.prove(order, limits)
            finally:
                self._busy.discard(prover)
        if self._closed and not outcome.admitted:
            return _ENDING
        self._tell(key, outcome)
        return outcome

    def _tell(self, key: Key, outcome: Outcome) -> None:
        name, version = key
        if outcome.admitted:
            fields = {"model": name, "version": version, "seconds": dict(outcome.seconds)}
            _log.info("admitted", extra={"fields": fields})
        else:
            _log.debug("model %s version %d: %s", name, version, outcome.code)

    def settle(self, live: Collection[Key]) -> None:
        """Give back what was admitted once and is live nowhere any more."""
        for key, case in list(self._admitted.items()):
            if key in live:
                case.seen = True
            elif case.seen:
                del self._admitted[key]
                if self._cases.get(key) is case:
                    del self._cases[key]
                _release(case)

    def kept(self) -> Mapping[Key, int]:
        """Return the descriptors of what was admitted."""
        return {
            key: outcome.descriptor
            for key, case in self._admitted.items()
            if (outcome := case.outcome) and outcome.descriptor is not None
        }

    def close(self) -> None:
        """End all children; who waits hears that the server ends."""
        self._closed = True
        for prover in (*self._busy, *self._idle):
            prover.kill()


def _unchanged(report: Json) -> bool:
    """Whether the files still look as they did when they were read."""
    root = Path(report["root"])
    return all(_stamp(root / one["name"]) == one["stamp"] for one in report["files"])


def _stamp(path: Path) -> str:
    try:
        return stamp_of(path.stat())
    except OSError:
        return ""


def _release(case: _Case) -> None:
    outcome = case.outcome
    if outcome is not None and outcome.descriptor is not None:
        os.close(outcome.descriptor)
