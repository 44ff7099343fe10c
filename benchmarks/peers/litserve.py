"""LitServe with a worker a core.

As https://lightning.ai/docs/litserve/features/batching and `.../api-reference/litserver` advise:
workers for parallel requests. Batching is for models whose run costs more than the hop between
processes, and waits, so it is off.
"""

from __future__ import annotations

from benchmarks.dialects import NAMED
from benchmarks.peers.environment import APPS, installed, pinned, variables
from benchmarks.servers import Kind, Launch, Site

_SETTINGS = "workers_per_device and num_api_servers one a core, fast_queue, ORT 1 thread"


def kinds() -> list[Kind]:
    """Return the server."""
    version = pinned("litserve", "litserve")
    return [Kind("litserve", version, _SETTINGS, NAMED, _launch, "/health")]


def _launch(site: Site) -> Launch:
    python = installed("litserve") / "bin" / "python"
    command = [str(python), str(APPS / "litserve_app.py"), str(site.port)]
    return Launch(command, variables(site), site.work)
