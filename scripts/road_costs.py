"""What a plain infer call costs on its road, in microseconds of processor time, part by part.

Everything runs in this process and without a socket: the whole is a request handed to a connection
until its answer is written.  The model is the small convolutional network of the benchmarks.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import uvloop
from fastapi import FastAPI
from uvicorn.server import ServerState

from benchmarks.dialects import v2_binary, v2_json
from benchmarks.models import copy_repository, subjects
from service import logs
from service.app import create_app
from service.batcher import Timings
from service.engine import EngineOptions, OrtEngine
from service.inference import Prediction
from service.metrics import Metrics
from service.observer import Observers
from service.settings import Settings
from service.statistics import Statistics
from service.tensors import TensorSpec, check
from service.web import wire
from service.web.response import encode
from service.web.skim import Skimmer
from service.web.visit import Visits

MODEL = "cnn"
SPECS = [TensorSpec("x", "FP32", ("n", 3, 32, 32))]
SECONDS = {"queue": 1e-4, "infer": 1e-4, "total": 1e-3}


def cheapest(work: Callable[[], object], times: int = 200, repeats: int = 30) -> float:
    """Return the microseconds of processor time of one call, the least of the repeats."""
    found = float("inf")
    for _ in range(repeats):
        started = time.thread_time()
        for _ in range(times):
            work()
        found = min(found, (time.thread_time() - started) / times)
    return found * 1e6


def parts(batch: dict[str, Any], engine: OrtEngine) -> dict[str, float]:
    """Return what each part costs alone."""
    text, binary = v2_json(MODEL, batch), v2_binary(MODEL, batch)
    skimmer, head = Skimmer(), int(binary.headers["Inference-Header-Content-Length"])
    call = wire.decode(text.body, skimmer=skimmer)
    names = [spec.name for spec in engine.outputs]
    outputs = engine.run(batch, names)
    prediction = Prediction(MODEL, 1, outputs, 1, Timings(0.0, 0.0, 1))
    metrics = Metrics("0")
    observers, visits = Observers(metrics, Statistics()), Visits(metrics, access_log=False)
    observers.model_state(MODEL, 1, "READY")
    specs = list(engine.inputs)
    return {
        "ONNX Runtime, one row": cheapest(lambda: engine.run(batch, names), 50),
        "JSON to tensor": cheapest(lambda: wire.decode(text.body, skimmer=skimmer)),
        "binary to tensor": cheapest(lambda: wire.decode(binary.body, json_bytes=head)),
        "checks of names, datatypes, shapes": cheapest(lambda: check(batch, specs)),
        "answer to JSON": cheapest(lambda: encode(call, prediction)),
        "metrics and statistics": cheapest(
            lambda: observers.request(MODEL, 1, outcome="success", rows=1, seconds=SECONDS)
        ),
        "request id, HTTP counters": cheapest(lambda: visits.close(_visit(visits))),
    }


def _visit(visits: Visits) -> Any:  # noqa: ANN401
    visit = visits.open(b"", method="POST", path="/v2/models/cnn/infer", client="127.0.0.1")
    visit.status = 200
    return visit


class Wire(asyncio.Transport):
    """A transport that counts answers."""

    def __init__(self, on_answer: Callable[[], None]) -> None:
        """Begin without one."""
        super().__init__()
        self._on_answer = on_answer

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return addresses."""
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take a whole answer."""
        if not bytes(data[:12]).endswith(b"200"):
            raise AssertionError(bytes(data[:200]))
        self._on_answer()

    def is_closing(self) -> bool:
        """Never."""
        return False

    def get_write_buffer_size(self) -> int:
        """Everything has been taken."""
        return 0


class Turns:
    """Connections to one application, each asked once a turn of the event loop."""

    def __init__(self, app: FastAPI, count: int) -> None:
        """Connect."""
        config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None)
        config.load()
        self._left = 0
        self._done: asyncio.Future[None] | None = None
        state = ServerState()
        self._connections = []
        for _ in range(count):
            connection = app.state.edge.protocol(config, state, {})
            connection.connection_made(Wire(self._answered))
            self._connections.append(connection)

    def _answered(self) -> None:
        self._left -= 1
        if not self._left and self._done is not None:
            self._done.set_result(None)

    async def take(self, raw: bytes) -> None:
        """Ask on every connection and wait for all answers."""
        self._left = len(self._connections)
        self._done = asyncio.get_running_loop().create_future()
        for connection in self._connections:
            connection.data_received(raw)
        await self._done

    async def cost(self, raw: bytes, turns: int = 100, repeats: int = 12) -> float:
        """Return the microseconds of processor time of one call, the least of the repeats."""
        found = float("inf")
        for _ in range(repeats):
            started = time.process_time()
            for _ in range(turns):
                await self.take(raw)
            found = min(found, (time.process_time() - started) / turns / len(self._connections))
        return found * 1e6


async def whole(repository: Path, batch: dict[str, Any]) -> dict[str, float]:
    """Return what a call costs from its bytes to the bytes of its answer."""
    found = {}
    calls = {"JSON": v2_json(MODEL, batch), "binary": v2_binary(MODEL, batch)}
    for log in (False, True):
        app = create_app(Settings(repository=repository, access_log=log))
        async with app.router.lifespan_context(app):
            await until_ready(app)
            for name, call in calls.items():
                for count in (1, 16):
                    label = f"{name}, {count} a turn{', with access log' if log else ''}"
                    found[label] = await Turns(app, count).cost(call.wire(8080))
    return found


async def until_ready(app: FastAPI) -> None:
    """Wait for the first load to end."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        # Nothing but the answer tells.
        while (await client.get("/v2/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def main(arguments: Sequence[str]) -> None:
    """Measure and print; the argument is a folder for the model, a new one if there is none."""
    cache = Path(arguments[0]) if arguments else Path(tempfile.mkdtemp())
    (subject,) = subjects([MODEL], cache, Path("models"))
    repository = copy_repository([subject], Path(tempfile.mkdtemp()) / "repository")
    batch = subject.batches(1)[0]
    print("| part | µs |\n|---|--:|")
    for name, cost in parts(batch, OrtEngine(str(subject.file), EngineOptions())).items():
        print(f"| {name} | {cost:.1f} |")
    with Path(os.devnull).open("w") as nowhere:
        logs.configure(style="json", stream=nowhere)
        found = uvloop.run(whole(repository, batch))
    for name, cost in found.items():
        print(f"| whole call, {name} | {cost:.0f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
