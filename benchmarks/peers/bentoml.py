"""BentoML with a worker a core and adaptive batching.

As https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html and
`.../build-with-bentoml/parallelize-requests.html` advise for models that take batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from benchmarks.dialects import JSON, Dialect, Encoding, Request
from benchmarks.errors import ServerUnusable
from benchmarks.models import Batch
from benchmarks.peers.environment import APPS, installed, pinned, variables
from benchmarks.servers import HOST, Kind, Launch, Site

_SETTINGS = "a worker a core, adaptive batching up to 32 rows, ORT 1 thread"


def kinds() -> list[Kind]:
    """Return the server."""
    version = pinned("bentoml", "bentoml")
    dialects: dict[Encoding, Dialect] = {"json": Dialect(_ask, _read)}
    return [Kind("bentoml", version, _SETTINGS, dialects, _launch, "/livez")]


def _ask(model: str, batch: Batch, _outputs: Sequence[str]) -> Request:
    """Ask with the only input; its batches are made of one array."""
    if len(batch) > 1:
        raise ServerUnusable(f"{model}: batches of several inputs are not supported: {list(batch)}")
    (value,) = batch.values()
    body = orjson.dumps({"inputs": value}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Request(f"/{model}", body, {"Content-Type": JSON})


def _read(_headers: Mapping[str, str], body: bytes) -> Batch:
    return {"probabilities": np.asarray(orjson.loads(body), np.float32)}


def _launch(site: Site) -> Launch:
    program = installed("bentoml") / "bin" / "bentoml"
    command = [str(program), "serve", "bentoml_app:Models", "--working-dir", str(APPS)]
    command += ["--host", HOST, "--port", str(site.port), "--quiet"]
    home = {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(site.work / "home")}
    return Launch(command, variables(site) | home, site.work)
