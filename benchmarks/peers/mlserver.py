"""MLServer with a custom runtime, in the Open Inference Protocol.

As https://docs.seldon.ai/mlserver/user-guide/custom and `.../user-guide/parallel-inference` advise
for models that are cheap to run: no inference workers, whose hop costs more than such a model.
Adaptive batching (`.../user-guide/adaptive-batching`) is off, as it is by default: it waits.
"""

from __future__ import annotations

import json

from benchmarks.dialects import V2_JSON
from benchmarks.peers.environment import installed, pinned, variables
from benchmarks.servers import HOST, Kind, Launch, Site, free_port

_SETTINGS = "parallel_workers 0, metrics and access log off, ORT 1 thread"


def kinds() -> list[Kind]:
    """Return the server."""
    version = pinned("mlserver", "mlserver")
    return [Kind("mlserver", version, _SETTINGS, V2_JSON, _launch, "/v2/health/live")]


def _launch(site: Site) -> Launch:
    program = installed("mlserver") / "bin" / "mlserver"
    settings = {
        "host": HOST,
        "http_port": site.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
    }
    (site.work / "settings.json").write_text(json.dumps(settings))
    for name, file in site.models.items():
        folder = site.work / name
        folder.mkdir()
        model = {
            "name": name,
            "implementation": "mlserver_app.OnnxModel",
            "parameters": {"uri": str(file)},
        }
        (folder / "model-settings.json").write_text(json.dumps(model))
    return Launch([str(program), "start", str(site.work)], variables(site), site.work)
