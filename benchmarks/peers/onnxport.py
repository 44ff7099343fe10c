"""onnxport as its user starts it, and the same held to one core."""

from __future__ import annotations

import functools
import subprocess
import sys

from benchmarks.dialects import V2
from benchmarks.servers import ROOT, Kind, Launch, Site
from service import __version__

_SERVE = (sys.executable, "-m", "service", "serve")
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
            lambda site: _launch(site, _one_worker()),
            _HEALTH,
            cores=(0,),
        ),
    ]


def _launch(site: Site, extra: tuple[str, ...]) -> Launch:
    command = (*_SERVE, str(site.repository), "--port", str(site.port), *extra)
    return Launch(command, {"PYTHONPATH": str(ROOT)}, site.work)


@functools.cache
def _one_worker() -> tuple[str, ...]:
    """Return the option for one worker, if this version has workers."""
    text = subprocess.run([*_SERVE, "--help"], capture_output=True, text=True, check=True, cwd=ROOT)
    return ("--workers", "1") if "--workers" in text.stdout else ()
