"""All servers that can be measured, and which of them a plan takes by default."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from benchmarks.errors import BenchmarkError
from benchmarks.peers import hand, onnxport
from benchmarks.servers import Kind

_OURS = ("onnxport", "fastapi")
DEFAULTS = {"quick": _OURS, "full": _OURS}


def catalogue(arguments: str = "") -> dict[str, Kind]:
    """Return every server by name; ``arguments`` are added to onnxport's command line."""
    kinds = chain(onnxport.kinds(arguments), hand.kinds())
    return {kind.name: kind for kind in kinds}


def chosen(names: Sequence[str], known: dict[str, Kind]) -> list[Kind]:
    """Return the servers called ``names``; raise BenchmarkError for one that is not known."""
    for name in names:
        if name not in known:
            raise BenchmarkError(f"server '{name}': must be one of {', '.join(known)}")
    return [known[name] for name in names]
