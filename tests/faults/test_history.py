"""The checker itself: each kind of broken history is found."""

from __future__ import annotations

import pytest

from tests.faults.history import Seen, Swap, verdicts

SWAPS = (Swap(1, 0, 1), Swap(2, 10, 12), Swap(3, 20, 22))


def seen(sent: float, answered: float, *claims: int, right: bool = True) -> Seen:
    """Return a request."""
    return Seen(sent, answered, frozenset(claims), right)


@pytest.mark.parametrize(
    ("request_", "verdict"),
    [
        (seen(2, 3, 1), "good"),
        (seen(2, 3, 2), "early"),
        (seen(9, 11, 2), "good"),
        (seen(11, 13, 1), "good"),
        (seen(12.1, 13, 1), "stale"),
        (seen(23, 24, 2), "stale"),
        (seen(23, 24, 3), "good"),
        (seen(21, 24, 2), "good"),
        (seen(11, 13, 1, 2), "mixed"),
        (seen(2, 3), "failed"),
        (seen(2, 3, 1, right=False), "wrong"),
        (seen(2, 3, 7), "early"),
    ],
)
def test_a_request_is_judged_by_the_time_of_the_swaps(request_: Seen, verdict: str) -> None:
    """An answer may be of any version that was active between its question and itself."""
    counts = verdicts(SWAPS, [request_])
    assert {name for name, count in counts.items() if count} == {verdict}
