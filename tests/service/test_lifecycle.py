"""Which versions readiness depends on, and how."""

from __future__ import annotations

import pytest

from service.lifecycle import LEGAL_MOVES, Readiness, Standing, State, counted, is_ready

STRICT = Readiness(strict=True)


def first(name: str, state: State) -> Standing:
    """Return a version that was wanted from the start."""
    return Standing(name, state, first=True)


def later(name: str, state: State) -> Standing:
    """Return a version that was loaded afterwards."""
    return Standing(name, state, first=False)


def ready(*versions: Standing, rule: Readiness | None = None) -> bool:
    """Decide readiness from whole versions."""
    return is_ready(counted(versions), rule or Readiness())


@pytest.mark.parametrize("state", [State.PENDING, State.LOADING, State.VERIFYING])
def test_the_start_is_waited_for(state: State) -> None:
    """Until every version of the start has been tried, the server is not ready."""
    assert not ready(first("a", State.READY), first("b", state))
    assert ready(first("a", State.READY), first("b", State.FAILED))


@pytest.mark.parametrize("state", [State.PENDING, State.LOADING, State.VERIFYING, State.FAILED])
def test_what_is_loaded_later_is_not_waited_for(state: State) -> None:
    """A serving server stays in traffic while a new model, or a new version, is tried or fails."""
    assert ready(first("a", State.READY), later("b", state))
    assert ready(first("a", State.READY), later("a", state))
    assert ready(first("a", State.READY), later("a", state), rule=STRICT)
    assert not ready(first("a", State.READY), later("b", state), rule=STRICT)


def test_a_server_that_answers_nothing_is_not_ready() -> None:
    """The only model is asked for and not there, whether it comes later or not."""
    assert not ready(later("a", State.LOADING))
    assert not ready(later("a", State.FAILED))
    assert ready(later("a", State.READY))


def test_what_leaves_is_not_wanted() -> None:
    """While a model drains the others decide, and without any the server is ready."""
    assert ready(first("a", State.READY), first("b", State.DRAINING), rule=STRICT)
    assert ready(first("a", State.DRAINING))
    assert ready()


def test_a_later_version_can_be_required() -> None:
    """A required model counts whichever version answers."""
    rule = Readiness(requires=("a",))
    assert ready(first("a", State.FAILED), later("a", State.READY), rule=rule)
    assert not ready(first("b", State.READY), later("a", State.LOADING), rule=rule)


def test_every_state_says_what_may_follow() -> None:
    """Every life ends, and none goes on after that."""
    assert set(LEGAL_MOVES) == set(State)
    assert LEGAL_MOVES[State.UNLOADED] == frozenset()
