"""The rules for several workers as plain functions: how many, who is next, what holds for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from service.control import Board, States, VersionState, versions_by_key

# From good to bad; what only some workers have heard of is on its way.
_RANKS: Final = (
    "READY", "WARMING", "VERIFYING", "LOADING", "PENDING", "DRAINING", "UNLOADED", "FAILED",
)  # fmt: skip
_UNHEARD: Final = "PENDING"
FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 30.0
MEMORY: Final = 120.0


@dataclass(frozen=True, slots=True)
class Crew:
    """How many workers there are, and how many runs each of them does at once."""

    workers: int
    threads: int


def crew_of(
    workers: int | Literal["auto"], threads: int | Literal["auto"], cores: int, *, cuda: bool
) -> Crew:
    """Return what is run on so many cores.

    A GPU is shared best by the threads of one process; on the CPU each core gets a process of its
    own, and fewer workers than cores share the cores out among their threads.
    """
    count = (1 if cuda else cores) if workers == "auto" else workers
    return Crew(count, max(1, cores // count) if threads == "auto" else threads)


@dataclass(frozen=True, slots=True)
class Post:
    """A worker as the one who hands out connections sees it; ``given`` counts up over all."""

    number: int
    open: int
    given: int
    up: bool
    settled: bool


def choose(posts: Iterable[Post]) -> int | None:
    """Return the number of the worker that gets the next connection, None if nobody takes any.

    It is the one with the fewest open connections, of those the one that was served longest ago.
    Whose models are still loading gets one only if that is so everywhere.
    """
    up = [post for post in posts if post.up]
    able = [post for post in up if post.settled] or up
    return min(able, key=lambda post: (post.open, post.given)).number if able else None


def restart_plan(deaths: Sequence[float], now: float) -> float:
    """Return the seconds to wait before a worker is started again after its latest death.

    ``deaths`` are monotonic times.  The first within two minutes costs a tenth of a second, every
    other twice as much as the one before, up to half a minute.
    """
    recent = sum(now - MEMORY <= death <= now for death in deaths)
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(max(0, recent - 1), 16)))


def worst(states: Iterable[str]) -> str:
    """Return the state that is farthest from READY; raises ValueError if there is none."""
    return max(states, key=_RANKS.index)


def worse_of(one: VersionState, other: VersionState) -> VersionState:
    """Return the worse of two states of a version; of two alike one that has a reason."""
    if _RANKS.index(other.state) > _RANKS.index(one.state):
        return other
    return other if other.state == one.state and not one.reason else one


def board_of(reports: Sequence[States]) -> Board:
    """Return what holds for all workers: ready if all are, each version as bad as its worst.

    A version that only some have heard of counts as PENDING with the others.
    """
    tables = [versions_by_key(report.versions) for report in reports]
    combined = []
    for key in sorted({key for table in tables for key in table}):
        unheard = VersionState(*key, _UNHEARD)
        found = unheard
        for index, table in enumerate(tables):
            state = table.get(key, unheard)
            found = state if index == 0 else worse_of(found, state)
        combined.append(found)
    return Board(bool(reports) and all(report.ready for report in reports), tuple(combined))
