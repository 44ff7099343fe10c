"""KServe's Python server with a custom predictor, a worker a core.

As https://kserve.github.io/website/0.8/modelserving/v1beta1/custom/custom_model describes, with
`--workers` of the server's own options; gRPC and the log line a request are off.
"""

from __future__ import annotations

from benchmarks.dialects import V2
from benchmarks.peers.environment import APPS, installed, pinned, variables
from benchmarks.servers import Kind, Launch, Site

_SETTINGS = "--workers CORES, gRPC and latency logging off, ORT 1 thread"


def kinds() -> list[Kind]:
    """Return the server."""
    version = pinned("kserve", "kserve")
    return [Kind("kserve", version, _SETTINGS, V2, _launch, "/v2/health/live")]


def _launch(site: Site) -> Launch:
    python = installed("kserve") / "bin" / "python"
    command = [str(python), str(APPS / "kserve_app.py"), "--http_port", str(site.port)]
    command += ["--workers", str(site.cores), "--enable_grpc", "false"]
    command += ["--enable_latency_logging", "false"]
    return Launch(command, variables(site), site.work)
