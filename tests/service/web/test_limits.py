"""The rules of a connection: what it may take, and how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.web.limits import ByteBudget, EdgeLimits, Phase, Progress, overdue

LIMITS = EdgeLimits()


def at(phase: Phase) -> Progress:
    """Return a connection that entered a phase at second 100."""
    return Progress(phase, since=100.0, moved=100.0)


def test_a_head_must_come_in_time() -> None:
    """However many of its bytes have come."""
    head = at(Phase.HEAD)
    head.heard(10, 109.0)
    assert overdue(head, LIMITS, 110.0) == ""
    assert overdue(head, LIMITS, 110.1) == "head"


def test_an_idle_connection_may_stay_longer() -> None:
    """And one whose caller waits for an answer for as long as that takes."""
    assert overdue(at(Phase.IDLE), LIMITS, 175.0) == ""
    assert overdue(at(Phase.IDLE), LIMITS, 175.1) == "idle"
    assert overdue(at(Phase.BUSY), LIMITS, 9_999.0) == ""


def test_a_body_must_move() -> None:
    """Without a byte for ten seconds it is given up."""
    body = at(Phase.BODY)
    body.heard(1 << 20, 109.0)
    assert overdue(body, LIMITS, 119.0) == ""
    assert overdue(body, LIMITS, 119.1) == "body"


def test_a_body_must_not_crawl() -> None:
    """After the first seconds, its mean rate counts."""
    crawling, walking = at(Phase.BODY), at(Phase.BODY)
    for second in range(101, 121):
        crawling.heard(1000, float(second))
        walking.heard(1100, float(second))
        assert (overdue(crawling, LIMITS, float(second)) == "body") == (second > 110)
        assert overdue(walking, LIMITS, float(second)) == ""


def test_a_new_phase_begins_anew() -> None:
    """Neither its time nor its bytes are those of the one before."""
    progress = at(Phase.HEAD)
    progress.heard(1 << 20, 105.0)
    progress.enter(Phase.BODY, 109.0)
    assert overdue(progress, LIMITS, 118.0) == ""
    progress.heard(100, 118.0)
    assert overdue(progress, LIMITS, 120.0) == "body"


def test_answers_must_be_taken() -> None:
    """A caller that takes some of them is waited for, one that takes none is not."""
    progress = at(Phase.IDLE)
    for second, unread in ((101, 5000), (109, 4000), (118, 3000)):
        progress.wrote(unread, float(second))
        assert overdue(progress, LIMITS, float(second)) == ""
    progress.wrote(9000, 127.0)
    assert overdue(progress, LIMITS, 128.0) == ""
    assert overdue(progress, LIMITS, 128.1) == "read"
    progress.wrote(0, 129.0)
    assert overdue(progress, LIMITS, 140.0) == ""


def test_a_refused_caller_must_go() -> None:
    """It gets a moment to read why."""
    assert overdue(at(Phase.ENDING), LIMITS, 102.0) == ""
    assert overdue(at(Phase.ENDING), LIMITS, 102.1) == "ending"


@given(st.lists(st.integers(0, 200), max_size=30))
def test_the_budget_is_never_exceeded_by_a_second_body(sizes: list[int]) -> None:
    """One alone always fits, since its own limit bounds it; together they stay below."""
    budget, held = ByteBudget(100), []
    for size in sizes:
        before = budget.held
        if budget.take(size):
            held.append(size)
            assert budget.held <= 100 or before == 0
        else:
            assert budget.held == before
            assert before + size > 100
    for size in held:
        budget.give(size)
    assert budget.held == 0
