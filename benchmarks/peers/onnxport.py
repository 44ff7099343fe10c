"""onnxport as its user starts it, and the same held to one core."""

from __future__ import annotations

import sys

from benchmarks.dialects import V2
from benchmarks.servers import ROOT, Kind, Launch, Site
from service import __version__

_SERVE = (sys.executable, "-m", "service", "serve", "--drain-delay", "0")
_HEALTH = "/v2/health/live"


def kinds(arguments: str) -> list[Kind]:
    """Return both; ``arguments`` are added to the command line of the first."""
    extra = tuple(arguments.split())
    settings = " ".join(("onnxport serve REPOSITORY", *extra))
    return [
        Kind("onnxport", __version__, settings, V2, lambda site: _launch(site, extra), _HEALTH),
        Kind(
            "onnxport-one-core",
            __version__,
            "the same with one worker, held to core 0",
            V2,
            lambda site: _launch(site, ("--workers", "1")),
            _HEALTH,
            cores=(0,),
        ),
    ]


def _launch(site: Site, extra: tuple[str, ...]) -> Launch:
    command = (*_SERVE, str(site.repository), "--port", str(site.port), *extra)
    return Launch(command, {"PYTHONPATH": str(ROOT)}, site.work)
