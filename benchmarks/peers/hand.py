"""A server written by hand with FastAPI and pydantic, one uvicorn worker a core.

The setting is that of https://fastapi.tiangolo.com/deployment/server-workers/ and the code that of
a tutorial: a typed body, an array of it, `session.run`, lists back.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.dialects import NAMED
from benchmarks.servers import HOST, Kind, Launch, Site

_FOLDER = Path(__file__).parent / "apps"


def kinds() -> list[Kind]:
    """Return the server."""
    settings = "uvicorn --workers CORES, async endpoints, ORT 1 thread"
    return [Kind("fastapi", version("fastapi"), settings, NAMED, _launch, "/health")]


def _launch(site: Site) -> Launch:
    command = [sys.executable, "-m", "uvicorn", "hand_app:app", "--app-dir", str(_FOLDER)]
    command += ["--host", HOST, "--port", str(site.port), "--workers", str(site.cores)]
    models = {name: str(file) for name, file in site.models.items()}
    return Launch([*command, "--no-access-log"], {"BENCHMARK_MODELS": json.dumps(models)})
