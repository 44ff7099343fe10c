"""What a seed stands for: a model, its policy, and who asks what when."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Literal

import numpy as np

from service.padding import Layout, Padding
from service.scheduling import BatchPolicy
from service.tensors import Tensor

Kind = Literal["fixed", "widths", "series"]
LAYOUTS: dict[Kind, Layout] = {
    "fixed": Layout(),
    "widths": Layout((("x", (1,)),)),
    "series": Layout((("x", (1,)),), Padding("x", "lengths", {"z": (1,)})),
}
_LONGEST = 14
# The first column says whose row it is: the caller's number, and which of its rows.
CODE = 100


@dataclass(slots=True)
class Request:
    """One caller: what it sends and when it gives up, and what became of it."""

    number: int
    at: float
    rows: int
    width: int
    wanted: tuple[str, ...]
    patience: float
    cancel_after: float | None
    poison: int | None
    alone: bool
    clumsy: bool
    inputs: dict[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class Scenario:
    """A policy, a model's habits, and the callers in the order in which they come.

    ``seconds`` and ``row_seconds`` are what a run takes; the runs in ``slow`` take long, those in
    ``lossy`` lose a row and those in ``broken`` fail in a way that nobody foresaw, by the number of
    the run.  ``deaf`` says that slow runs cannot be ended.
    """

    seed: int
    policy: BatchPolicy
    kind: Kind
    requests: list[Request]
    seconds: float
    row_seconds: float
    slow: frozenset[int]
    lossy: frozenset[int]
    broken: frozenset[int]
    deaf: bool
    close_at: float | None


def draw(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    random = Random(seed)
    chance, pick = random.random, random.choice
    policy = BatchPolicy(
        max_rows=pick((1, 4, 8, 16)),
        queue_rows=pick((3, 64, 64)),
        queue_bytes=pick((300, *(1 << 20,) * 4)),
        concurrency=pick((1, 1, 2, 3)),
        batchable=chance() > 0.1,
        run="tick" if chance() < 0.5 else "threads",
        tick_rows=pick((1, 4, 8)),
        tick_length=pick((None, 6, 10)),
        tick_strikes=1 + seed % 2,
        max_wait=pick((0.0, 0.004)),
    )
    kind: Kind = pick(("fixed", "widths", "series", "series"))
    troubled = chance() < 0.15
    requests = _requests(random, kind)
    return Scenario(
        seed,
        policy,
        kind,
        requests,
        seconds=pick((0.0001, 0.001, 0.004)),
        row_seconds=pick((0.0, 0.0005)),
        slow=frozenset(_some(random, 0.1)),
        lossy=frozenset(_some(random, 0.1)) if troubled else frozenset(),
        broken=frozenset(_some(random, 0.1)) if troubled else frozenset(),
        deaf=chance() < 0.3,
        close_at=requests[-1].at * (0.5 + chance() / 2) if chance() < 0.3 else None,
    )


def _some(random: Random, share: float) -> list[int]:
    return [number for number in range(8) if random.random() < share]


def _requests(random: Random, kind: Kind) -> list[Request]:
    chance = random.random
    now = 0.0
    pace = random.choice((0.0005, 0.002, 0.01))
    requests = []
    for number in range(2 + int(chance() * 8)):
        if chance() < 0.5:
            now += chance() * pace
        requests.append(_request(random, kind, number, now))
    return requests


def _request(random: Random, kind: Kind, number: int, at: float) -> Request:
    chance, pick = random.random, random.choice
    rows = 1 + int(chance() * 3) if chance() < 0.9 else int(chance() * 12)
    width = {"fixed": 2, "widths": 1 + int(chance() * 2), "series": 1 + int(chance() * _LONGEST)}
    request = Request(
        number,
        at,
        rows,
        width[kind],
        ("y", "z") if chance() < 0.7 else ("y",),
        patience=0.001 + chance() * (0.01 if chance() < 0.3 else 1.0),
        cancel_after=chance() * pick((0.001, 0.01)) if chance() < 0.2 else None,
        poison=int(chance() * rows) if rows and chance() < 0.1 else None,
        alone=chance() < 0.05,
        clumsy=chance() < 0.03,
    )
    request.inputs = _inputs(random, kind, request)
    return request


def _inputs(random: Random, kind: Kind, request: Request) -> dict[str, Tensor]:
    rows, width = request.rows, request.width
    x = np.full((rows, width), request.number + 1, np.int64)
    x[:, 0] = np.arange(rows) + (request.number + 1) * CODE
    if request.poison is not None:
        x[request.poison, 0] *= -1
    inputs: dict[str, Tensor] = {"x": x}
    if kind == "series":
        lengths = [1 + int(random.random() * width) for _ in range(rows)]
        inputs["lengths"] = np.asarray(lengths, np.int64)
    return inputs
