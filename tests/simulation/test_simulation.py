"""The scheduler keeps its laws in every drawn scenario, and the laws find planted faults."""

from __future__ import annotations

import pytest

from tests.simulation.laws import LawBroken
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.scenario import draw
from tests.simulation.world import World

SEEDS = 1500
MUTANT_SEEDS = 1000


def first_broken(seeds: int) -> LawBroken | None:
    """Return the first law that is broken by a seed, if one is."""
    for seed in range(seeds):
        try:
            World(draw(seed)).play()
        except LawBroken as broken:
            return broken
    return None


def test_the_laws_hold() -> None:
    """Every drawn scenario, with everything that can go wrong in it, keeps every law."""
    assert first_broken(SEEDS) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault.replace(" ", "-"))
def test_a_planted_fault_is_found(mutant: Mutant) -> None:
    """A scheduler with one fault breaks the law that forbids it, within a thousand seeds."""
    with mutant.planted():
        broken = first_broken(MUTANT_SEEDS)
    assert broken is not None
    assert broken.law == mutant.law


def test_a_seed_is_replayed() -> None:
    """The same seed is the same run, to the last answer and moment."""
    worlds = [World(draw(7)) for _ in range(2)]
    for world in worlds:
        world.play()
    first, second = (
        [(number, caller.answered_at, str(caller.answers)) for number, caller in w.callers.items()]
        for w in worlds
    )
    assert first == second
    assert any(at for _, at, _ in first)
