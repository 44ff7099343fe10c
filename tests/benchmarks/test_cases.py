"""Which cases a plan has."""

from __future__ import annotations

import pytest

from benchmarks.cases import FULL, LARGE, PEERS, QUICK, Case, closed_cases, narrowed, open_cases
from benchmarks.errors import BenchmarkError


def test_the_quick_plan_has_three_models_two_encodings_and_one_open_point() -> None:
    """Its cases are what `make bench` promises."""
    closed, opened = list(closed_cases(QUICK)), list(open_cases(QUICK))
    assert len(closed) == 3 * 2 * 2
    assert {case.connections for case in closed} == {1, 32}
    assert [case.factor for case in opened] == [0.8]


def test_the_large_model_is_pressed_by_eight_connections_while_health_is_asked() -> None:
    """In both encodings, and nothing else of it."""
    large = [case for case in closed_cases(PEERS) if case.model == LARGE]
    assert large == [Case(LARGE, encoding, 8, health=True) for encoding in ("json", "binary")]


@pytest.mark.parametrize("plan", [QUICK, FULL, PEERS])
def test_every_open_loop_has_a_closed_one_that_finds_its_capacity(plan: object) -> None:
    """Else it would be skipped."""
    assert isinstance(plan, type(QUICK))
    found = {(case.model, case.encoding, case.rows) for case in closed_cases(plan)}
    assert {(case.model, case.encoding, case.rows) for case in open_cases(plan)} <= found


def test_a_narrowed_plan_has_what_was_asked_for() -> None:
    """And no open loops when connections were given."""
    plan = narrowed(FULL, models=["rnn"], encodings=["binary"], connections=[16], rows=[4])
    assert list(closed_cases(plan)) == [Case("rnn", "binary", 16, 4)]
    assert not list(open_cases(plan))


def test_open_loops_can_be_asked_for_by_their_factors() -> None:
    """For the models and encodings that were named."""
    plan = narrowed(QUICK, models=["rnn"], encodings=["json"], connections=[8], factors=[1.5])
    assert [(case.model, case.encoding, case.factor) for case in open_cases(plan)] == [
        ("rnn", "json", 1.5)
    ]


@pytest.mark.parametrize(
    ("asked", "text"),
    [({"models": ["cat"]}, "model 'cat'"), ({"encodings": ["xml"]}, "encoding 'xml'")],
)
def test_an_unknown_name_is_refused_with_those_that_are_known(
    asked: dict[str, list[str]], text: str
) -> None:
    """Before anything is started."""
    with pytest.raises(BenchmarkError, match=rf"{text}: must be one of .*(cnn|json)"):
        narrowed(QUICK, models=asked.get("models", ()), encodings=asked.get("encodings", ()))
