"""What is measured: models, encodings, connections, rows, and how hard the server is pressed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from benchmarks.dialects import ENCODINGS, Encoding
from benchmarks.errors import BenchmarkError
from benchmarks.models import BUNDLED, SYNTHETIC

OPEN_CONNECTIONS = 256
SMALL = ("cnn", "rnn", "attention")
LARGE = "resnet18"
# One run of these costs more than the hop to another process, so that they gain from a worker a
# core; the others do better in larger batches on one worker.
EXPENSIVE = ("attention", LARGE)


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the matrix.

    ``factor`` 0 is a closed loop over ``connections``; any other is an open loop at that multiple
    of the server's capacity, the best rate that the closed loops found for it in the same run.
    ``health`` says that the health route is asked meanwhile.
    """

    model: str
    encoding: Encoding
    connections: int
    rows: int = 1
    factor: float = 0.0
    health: bool = False

    @property
    def label(self) -> str:
        """The case in words, for progress lines and tables."""
        load = f"open loop, {self.factor:g} x" if self.factor else f"{self.connections} conn."
        return f"{self.model} {self.encoding}, {self.rows} row(s), {load}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A matrix before it is written out; ``grid`` pairs rows a request with connections."""

    models: tuple[str, ...]
    grid: tuple[tuple[int, int], ...]
    factors: tuple[float, ...]
    encodings: tuple[Encoding, ...] = ENCODINGS
    open_models: tuple[str, ...] = ("cnn",)
    open_encodings: tuple[Encoding, ...] = ("binary",)


def _pairs(rows: int, *connections: int) -> tuple[tuple[int, int], ...]:
    return tuple((rows, count) for count in connections)


QUICK = Plan(SMALL, _pairs(1, 1, 32), factors=(0.8,), open_encodings=("json",))
FULL = Plan(
    (*SMALL, *BUNDLED),
    (*_pairs(1, 1, 8, 32, 64), *_pairs(32, 1, 4, 8, 32, 64)),
    factors=(0.5, 0.8, 1.2, 2.0),
    open_models=("cnn", "attention"),
)
PEERS = Plan((*SMALL, LARGE), (*_pairs(1, 1, 8, 32, 64), *_pairs(32, 4)), factors=(0.8, 1.2))
PLANS = {"quick": QUICK, "full": FULL, "peers": PEERS}


def closed_cases(plan: Plan) -> Iterator[Case]:
    """Yield the closed loops; the large model is pressed by 8 connections alone."""
    for model in dict.fromkeys((*plan.models, *_opened(plan))):
        if model == LARGE:
            yield from (Case(model, encoding, 8, health=True) for encoding in plan.encodings)
        elif model in plan.models:
            for (rows, connections), encoding in product(plan.grid, plan.encodings):
                yield Case(model, encoding, connections, rows)


def open_cases(plan: Plan) -> Iterator[Case]:
    """Yield the open loops, one row a request."""
    encodings = [each for each in plan.open_encodings if each in plan.encodings]
    for model, encoding, factor in product(_opened(plan), encodings, plan.factors):
        yield Case(model, encoding, OPEN_CONNECTIONS, factor=factor)


def _opened(plan: Plan) -> tuple[str, ...]:
    return plan.open_models if plan.factors else ()


def narrowed(
    plan: Plan,
    *,
    models: Sequence[str] = (),
    encodings: Sequence[str] = (),
    connections: Sequence[int] = (),
    rows: Sequence[int] = (),
    factors: Sequence[float] | None = None,
) -> Plan:
    """Return the plan with what was asked for in place of its own; empty means all it has.

    With connections or rows but no factors there are no open loops.  Raises BenchmarkError for an
    unknown model or encoding.
    """
    known = (*SYNTHETIC, *BUNDLED)
    _require(models, known, "model")
    _require(encodings, ENCODINGS, "encoding")
    grid = plan.grid
    if connections or rows:
        grid = tuple(product(rows or (1,), connections or sorted({c for _, c in plan.grid})))
        factors = factors or ()
    kept = tuple(each for each in ENCODINGS if each in encodings) or plan.encodings
    return Plan(
        tuple(models) or plan.models,
        grid,
        plan.factors if factors is None else tuple(factors),
        kept,
        tuple(models) or plan.open_models,
        kept if encodings else plan.open_encodings,
    )


def _require(asked: Sequence[str], known: Sequence[str], kind: str) -> None:
    for name in asked:
        if name not in known:
            raise BenchmarkError(f"{kind} '{name}': must be one of {', '.join(known)}")
