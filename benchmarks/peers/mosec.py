"""mosec: a Rust front that batches, Python workers behind it.

As https://mosecorg.github.io/mosec/reference/concept.html advises: dynamic batching, a custom
body format through `serialize` and `deserialize`, ONNX Runtime on one thread. Expensive models
have a worker a core. The wait is the shortest that batching allows, 1 ms.
"""

from __future__ import annotations

from benchmarks.dialects import FRAMED
from benchmarks.peers.environment import APPS, installed, pinned, variables
from benchmarks.servers import HOST, Kind, Launch, Site

_SETTINGS = "1 worker (expensive: one a core), batches within 1 ms, orjson or raw frames, ORT 1"


def kinds() -> list[Kind]:
    """Return the server."""
    return [Kind("mosec", pinned("mosec", "mosec"), _SETTINGS, FRAMED, _launch, "/")]


def _launch(site: Site) -> Launch:
    python = installed("mosec") / "bin" / "python"
    command = [str(python), str(APPS / "mosec_app.py"), "--address", HOST]
    command += ["--port", str(site.port), "--timeout", "60000", "--log-level", "warning"]
    return Launch(command, variables(site), site.work)
