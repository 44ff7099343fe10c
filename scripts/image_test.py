"""Hold an image to what the documents promise of it, and report its figures.

    image_test ENGINE IMAGE BASE

Starts it as a user whom no file knows, on a root that is read-only, with no capability, over two
bundles.  Exits 1 with the first promise that does not hold.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from image_engines import USER, Call, Engine, Started, engine_of

from tests.support import models

MOST_BYTES = 450_000_000
PATIENCE = 60.0
_NOT_IN_IT = ("torch", "pip", "sklearn", "matplotlib", "pytest")
_WRITES = """
import pathlib
for folder in ("/", "/etc/onnxport", "/opt/onnxport", "/models"):
    try:
        (pathlib.Path(folder) / "x").write_text("x")
    except OSError:
        continue
    raise SystemExit(f"{folder} can be written in")
pathlib.Path("/tmp/x").write_text("x")
"""
_IMPORTS = """
import importlib.util, sys
found = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
raise SystemExit(f"holds {found}" if found else 0)
"""


def main(engine_name: str, image: str, base: str) -> None:
    """Check and report."""
    with engine_of(engine_name, image) as engine, TemporaryDirectory() as folder:
        config = engine.config()
        check_config(config)
        check_content(engine)
        size = engine.bytes_over(base)
        # CUDA's libraries alone are five times as large.
        small = size < MOST_BYTES or "NVIDIA_VISIBLE_DEVICES=all" in config["Env"]
        held(small, f"has at most {MOST_BYTES} bytes over its base, not {size}")
        served, log = Path(folder) / "models", Path(folder) / "log"
        make_models(served)
        try:
            serve(engine, served, log)
            serve_on_platforms(engine, served, log)
        except BaseException:
            print(log.read_text(), file=sys.stderr)
            raise
        print(f"size over its base {size / 1e6:.0f} MB")
        print(f"{image}: every promise holds")


def held(condition: object, promise: str) -> None:
    """End with the promise unless it holds."""
    if not condition:
        sys.exit(f"image-test: not so: {promise}")


def check_config(config: dict[str, Any]) -> None:
    """Check what the image says of itself."""
    held(config["Entrypoint"] == ["onnxport"] and config["Cmd"] == ["serve"], "serves by itself")
    held(config["User"].split(":")[0] not in {"", "0", "root"}, "is not root's")
    held(config["Healthcheck"]["Test"] == ["CMD", "onnxport", "healthcheck"], "checks its health")
    held("8080/tcp" in config["ExposedPorts"], "shows its port")
    labels = config["Labels"]
    for name in ("title", "version", "revision", "licenses", "description"):
        held(labels.get(f"org.opencontainers.image.{name}"), f"has the label {name}")


def check_content(engine: Engine) -> None:
    """Check what is in it, and what is not."""
    torch = engine.run("python3", "-c", _IMPORTS, *_NOT_IN_IT)
    held(torch.returncode == 0, f"has none of {_NOT_IN_IT}: {torch.stderr}")
    for compiler in ("cc", "gcc", "g++", "make"):
        held(engine.run("sh", "-c", f"command -v {compiler}").returncode, f"has no {compiler}")


def make_models(folder: Path) -> None:
    """Write two bundles and a bare file, for everybody to read."""
    folder.mkdir()
    models.picture_bundle(folder)
    models.text_bundle(folder)
    models.write_doubler(folder / "doubler.onnx")
    for path in (folder.parent, folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def serve(engine: Engine, served: Path, log: Path) -> None:
    """Start the image as it is, ask it everything, and end it."""
    port = free_port()
    began = time.monotonic()
    with engine.started(Call((), served, "/models", port), log) as container:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            wait_until_ready(client, container, began)
            print(f"ready {time.monotonic() - began:.2f} s after its start, with 3 models")
            first = memory(container.pid)
            ask(client)
            now = memory(container.pid)
            print(f"memory {first / 1e6:.0f} MB when ready, {now / 1e6:.0f} MB after")
        check_health(engine, port, 0)
        user = Path(f"/proc/{container.pid}").stat().st_uid
        held(user == int(USER.split(":")[0]), f"runs as the user it was given, not {user}")
        writes = engine.run("python3", "-c", _WRITES)
        held(writes.returncode == 0, f"writes in /tmp alone: {writes.stderr}")
        began = time.monotonic()
        container.process.terminate()
        held(container.process.wait(PATIENCE) == 0, "ends with 0 when it is asked to end")
        print(f"ended {time.monotonic() - began:.2f} s after it was asked to")
    check_health(engine, port, 1)


def check_health(engine: Engine, port: int, code: int) -> None:
    """Check what the image's own health check says."""
    health = engine.run("env", f"ONNXPORT_PORT={port}", "onnxport", "healthcheck")
    held(health.returncode == code, f"its health is {code}: {health.stdout}{health.stderr}")


def serve_on_platforms(engine: Engine, served: Path, log: Path) -> None:
    """Start the image as SageMaker and KServe do, with one model where they put it."""
    port = free_port()
    kserve = ("serve", "--model_name=other", "--model_dir=/mnt/models", f"--http_port={port}")
    for title, call, model in (
        ("SageMaker", Call(("serve",), served / "texts", "/opt/ml/model", port), "texts"),
        ("KServe", Call(kserve, served / "texts", "/mnt/models", port), "other"),
    ):
        with (
            engine.started(call, log) as container,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client,
        ):
            wait_until_ready(client, container, time.monotonic())
            road = "/invocations" if title == "SageMaker" else f"/v1/models/{model}:predict"
            answer = client.post(road, json={"instances": ["one"]})
            held('"label":"short"' in answer.text, f"serves {title}, got {answer.text}")
            print(f"serves as {title} starts it")


def wait_until_ready(client: httpx.Client, container: Started, began: float) -> None:
    """Ask until the server takes traffic."""
    while True:
        held(container.process.poll() is None, "goes on running")
        held(time.monotonic() - began < PATIENCE, f"is ready within {PATIENCE:.0f} s")
        try:
            if client.get("/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)


def ask(client: httpx.Client) -> None:
    """Ask for predictions in both protocols and for the metrics."""
    for _ in range(20):
        texts = client.post("/v1/models/texts:predict", json={"instances": ["one"]}).json()
        held(texts["predictions"][0]["label"] == "short", f"labels a text, got {texts}")
    picture = client.post(
        "/v1/models/pictures:predict",
        content=models.png([[0, 255], [255, 0]]),
        headers={"Content-Type": "image/png"},
    )
    held(picture.status_code == 200, f"labels a picture, got {picture.text}")
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]}
    doubled = client.post("/v2/models/doubler/infer", json={"inputs": [tensor]}).json()
    held(doubled.get("outputs", [{}])[0].get("data") == [3, 4], f"doubles, got {doubled}")
    metrics = client.get("/metrics").text
    held('onnxport_rows_total{model_name="texts"' in metrics, "counts rows in its metrics")


def memory(pid: int) -> int:
    """Return the bytes that a process and its children hold, shared pages divided among them."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            total = int(line.split()[1]) * 1024
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    return total + sum(memory(int(child)) for child in children)


if __name__ == "__main__":
    main(*sys.argv[1:])
