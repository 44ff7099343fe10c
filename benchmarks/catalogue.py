"""All servers that can be measured, and which of them a plan takes by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from benchmarks.errors import BenchmarkError
from benchmarks.peers import bentoml, hand, kserve, litserve, mlserver, mosec, onnxport, triton
from benchmarks.servers import Kind

_OURS = ("onnxport", "fastapi")
_PEERS = ("triton", "mosec", "mlserver", "litserve", "kserve", "bentoml")
DEFAULTS = {"quick": _OURS, "full": _OURS, "peers": (*_OURS, *_PEERS)}


def catalogue(arguments: str = "") -> dict[str, Kind]:
    """Return every server by name; ``arguments`` are added to onnxport's command line."""
    others = (hand, triton, mosec, mlserver, litserve, kserve, bentoml)
    kinds = chain(onnxport.kinds(arguments), *(module.kinds() for module in others))
    return {kind.name: kind for kind in kinds}


def chosen(names: Sequence[str], known: Mapping[str, Kind]) -> list[Kind]:
    """Return the servers called ``names``; raise BenchmarkError for one that is not known."""
    for name in names:
        if name not in known:
            raise BenchmarkError(f"server '{name}': must be one of {', '.join(known)}")
    return [known[name] for name in names]
