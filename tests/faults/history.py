"""Whether a history of answers could have come from one server that swaps versions in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Swap:
    """A version took over: not before ``published``, and for everybody at ``done`` (seconds)."""

    version: int
    published: float
    done: float


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: when it was sent and answered, and what came back.

    ``claims`` are the versions that the answer and its parts name; none where it failed.
    ``right`` says that the arithmetic of the version that answered holds.
    """

    sent: float
    answered: float
    claims: frozenset[int]
    right: bool = True


def verdicts(swaps: Sequence[Swap], seen: Iterable[Seen]) -> Mapping[str, int]:
    """Count what happened to the requests: good, failed, wrong, mixed, early or stale.

    A swap is known by its version, which grows.  An answer is early if its version had not been
    published when it came, and stale if a later one had taken over before it was asked for.
    """
    published = {swap.version: swap.published for swap in swaps}
    counts = Counter({"good": 0, "failed": 0, "wrong": 0, "mixed": 0, "early": 0, "stale": 0})
    ended = sorted((swap.done, swap.version) for swap in swaps)
    for one in seen:
        counts[_verdict(one, published, ended)] += 1
    return dict(counts)


def _verdict(one: Seen, published: Mapping[int, float], ended: Sequence[tuple[float, int]]) -> str:
    if not one.claims:
        return "failed"
    if len(one.claims) > 1:
        return "mixed"
    (version,) = one.claims
    if not one.right:
        return "wrong"
    if one.answered < published.get(version, float("inf")):
        return "early"
    settled = max((number for done, number in ended if done < one.sent), default=0)
    return "stale" if version < settled else "good"
