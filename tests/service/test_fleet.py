"""How many workers there are, who is next, and what holds for all of them."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import hypothesis
import pytest
from hypothesis import strategies as st

from service.control import Board, States, VersionState
from service.fleet import (
    LONGEST_WAIT,
    MEMORY,
    Crew,
    Post,
    board_of,
    choose,
    crew_of,
    restart_plan,
    worst,
)


@pytest.mark.parametrize(
    ("workers", "threads", "cores", "cuda", "crew"),
    [
        ("auto", "auto", 4, False, Crew(4, 1)),
        ("auto", "auto", 1, False, Crew(1, 1)),
        ("auto", "auto", 8, True, Crew(1, 8)),
        (1, "auto", 4, False, Crew(1, 4)),
        (2, "auto", 8, False, Crew(2, 4)),
        (3, "auto", 2, False, Crew(3, 1)),
        (2, "auto", 8, True, Crew(2, 4)),
        ("auto", 3, 4, False, Crew(4, 3)),
        (1, 3, 4, False, Crew(1, 3)),
    ],
)
def test_the_crew(
    workers: int | Literal["auto"],
    threads: int | Literal["auto"],
    cores: int,
    *,
    cuda: bool,
    crew: Crew,
) -> None:
    """One process a core, one for a GPU, and what the operator says holds."""
    assert crew_of(workers, threads, cores, cuda=cuda) == crew


def post(
    number: int, *, holds: int = 0, given: int = 0, up: bool = True, settled: bool = True
) -> Post:
    """Return a worker."""
    return Post(number, holds, given, up, settled)


def test_the_fewest_open_connections_win() -> None:
    """Whoever was served last does not matter then."""
    assert choose([post(1, holds=3), post(2, holds=2, given=9), post(3, holds=4)]) == 2


def test_of_equals_the_one_that_waited_longest() -> None:
    """So that calls that come one after the other are shared, too."""
    assert choose([post(1, given=7), post(2, given=5), post(3, given=6)]) == 2


def test_a_worker_that_still_loads_waits() -> None:
    """It gets nothing while another one answers, and something if all of them load."""
    loading = post(1, settled=False)
    assert choose([loading, post(2, holds=50)]) == 2
    assert choose([loading, post(2, up=False)]) == 1
    assert choose([post(1, up=False, settled=False)]) is None
    assert choose([]) is None


@hypothesis.given(st.integers(1, 8), st.integers(1, 200))
def test_connections_are_spread_evenly(workers: int, connections: int) -> None:
    """As long as none ends, no worker holds two more than another."""
    held, last = Counter[int](), Counter[int]()
    for turn in range(1, connections + 1):
        chosen = choose(post(n, holds=held[n], given=last[n]) for n in range(1, workers + 1))
        assert chosen is not None
        held[chosen] += 1
        last[chosen] = turn
        counts = [held[n] for n in range(1, workers + 1)]
        assert max(counts) - min(counts) <= 1


def test_the_wait_doubles() -> None:
    """The first death costs next to nothing, a row of them ever more, up to a bound."""
    waits = [restart_plan([100.0] * deaths, 100.0) for deaths in range(1, 5)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert restart_plan([100.0] * 5000, 100.0) == LONGEST_WAIT


def test_old_deaths_are_forgiven() -> None:
    """A worker that has lived long starts again at once."""
    old = [1.0, 2.0, 3.0]
    assert restart_plan([*old, 3.0 + MEMORY + 1], 3.0 + MEMORY + 1) == pytest.approx(0.1)


def test_the_worst_state() -> None:
    """READY only if all are; a failure is seen whatever the others say."""
    assert worst(["READY", "READY"]) == "READY"
    assert worst(["READY", "LOADING", "VERIFYING"]) == "LOADING"
    assert worst(["READY", "FAILED", "DRAINING"]) == "FAILED"


def states(*versions: VersionState, ready: bool = True) -> States:
    """Return what a worker says."""
    return States(ready, settled=True, versions=versions)


def test_the_board_is_as_bad_as_the_worst() -> None:
    """A reason is kept, and what only some have heard of is on its way."""
    good, bad = VersionState("m", 1, "READY"), VersionState("m", 1, "FAILED", "it fell")
    new = VersionState("n", 2, "READY")
    board = board_of([states(good, new), states(bad, ready=False)])
    assert board == Board(ready=False, versions=(bad, VersionState("n", 2, "PENDING")))
    assert board_of([states(good, new), states(good, new)]) == Board(
        ready=True, versions=(good, new)
    )


def test_a_board_of_nobody() -> None:
    """Without workers nothing is ready."""
    assert board_of([]) == Board(ready=False, versions=())


def test_a_failed_replacement_is_seen_in_all() -> None:
    """The old version answers, and the reason stays with it."""
    old, noted = VersionState("m", 1, "READY"), VersionState("m", 1, "READY", "replacement failed")
    assert board_of([states(old), states(noted)]).versions == (noted,)
