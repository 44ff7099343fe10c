"""The life of a version as plain values: its states, what may follow what, and who is ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from service.batcher import BatchPolicy
from service.contract import Contract
from service.serving import ServingRules
from service.showcase import Showcase
from service.tensors import TensorSpec


class State(StrEnum):
    """The life of a version; `LEGAL_MOVES` says what may follow what."""

    PENDING = "PENDING"
    LOADING = "LOADING"
    VERIFYING = "VERIFYING"
    WARMING = "WARMING"
    READY = "READY"
    DRAINING = "DRAINING"
    FAILED = "FAILED"
    UNLOADED = "UNLOADED"


LEGAL_MOVES: Mapping[State, frozenset[State]] = {
    State.PENDING: frozenset({State.LOADING, State.UNLOADED}),
    State.LOADING: frozenset({State.VERIFYING, State.FAILED}),
    State.VERIFYING: frozenset({State.WARMING, State.FAILED}),
    State.WARMING: frozenset({State.READY, State.FAILED}),
    State.READY: frozenset({State.DRAINING}),
    State.DRAINING: frozenset({State.UNLOADED}),
    State.FAILED: frozenset({State.UNLOADED}),
    State.UNLOADED: frozenset(),
}

IN_PROGRESS = frozenset({State.LOADING, State.VERIFYING, State.WARMING})
LEAVING = frozenset({State.DRAINING, State.UNLOADED})


@dataclass(frozen=True, slots=True)
class ModelView:
    """What anybody may know about one version, as plain values.

    ``reason`` and ``code`` are "" unless the version, or the last attempt to replace it, has
    failed; the codes are those of `service.refusals` and of errors.  ``inputs``,
    ``outputs`` and ``info`` are empty, ``batching``, ``showcase`` and ``contract`` None until it
    has been opened.  ``rules`` are those in force for the whole model.
    """

    name: str
    version: int
    state: State
    reason: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    info: dict[str, object]
    rules: ServingRules = field(default_factory=ServingRules)
    batching: BatchPolicy | None = None
    provider: str = ""
    showcase: Showcase | None = None
    contract: Contract | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """When the server as a whole is ready.

    Normally: every version has ended its first attempt and one is READY, or none is wanted.
    ``strict`` asks for all, ``requires`` for the named models.
    """

    strict: bool = False
    requires: tuple[str, ...] = ()


def is_ready(states: Sequence[tuple[str, State]], rule: Readiness) -> bool:
    """Decide readiness from the (name, state) of every wanted version."""
    ready = {name for name, state in states if state is State.READY}
    if not set(rule.requires) <= ready:
        return False
    if rule.strict:
        return all(state is State.READY for _, state in states)
    ended = all(state in (State.READY, State.FAILED) for _, state in states)
    return ended and (bool(ready) or not states)


@dataclass(frozen=True, slots=True)
class Standing:
    """A version as readiness sees it; ``first`` says that it was wanted from the start."""

    name: str
    state: State
    first: bool


def counted(versions: Sequence[Standing]) -> list[tuple[str, State]]:
    """Return the (name, state) of the versions that readiness depends on.

    What is loaded later must not take a serving server out of traffic: nobody waits for it, and
    it does not count beside a version of its model that answers.  What is unloaded is not wanted.
    """
    ready = {one.name for one in versions if one.state is State.READY}
    states = []
    for one in versions:
        if one.state in LEAVING:
            continue
        if one.first or one.state is State.READY:
            states.append((one.name, one.state))
        elif one.name not in ready:
            states.append((one.name, State.FAILED))
    return states
