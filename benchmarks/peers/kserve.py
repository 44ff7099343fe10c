"""KServe's Python server with a custom predictor, a worker a core.

As https://kserve.github.io/website/0.8/modelserving/v1beta1/custom/custom_model describes, with
`--workers` and `--log_config_file` of the server's own options; gRPC and the lines that it logs for
each request are off.
"""

from __future__ import annotations

import json

from benchmarks.dialects import V2
from benchmarks.peers.environment import APPS, installed, pinned, variables
from benchmarks.servers import Kind, Launch, Site

_SETTINGS = "--workers CORES, gRPC and logging off, ORT 1 thread"
_LOGGERS = ("kserve", "kserve.trace", "uvicorn", "uvicorn.access", "uvicorn.error")
_QUIET = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {name: {"level": "WARNING"} for name in _LOGGERS},
}


def kinds() -> list[Kind]:
    """Return the server."""
    version = pinned("kserve", "kserve")
    return [Kind("kserve", version, _SETTINGS, V2, _launch, "/v2/health/live")]


def _launch(site: Site) -> Launch:
    python = installed("kserve") / "bin" / "python"
    command = [str(python), str(APPS / "kserve_app.py"), "--http_port", str(site.port)]
    command += ["--workers", str(site.cores), "--enable_grpc", "false"]
    config = site.work / "logging.json"
    config.write_text(json.dumps(_QUIET))
    command += ["--enable_latency_logging", "false", "--log_config_file", str(config)]
    return Launch(command, variables(site), site.work)
