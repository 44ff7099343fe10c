"""Serve pre-trained models out of published packages and compare every answer with ONNX Runtime.

The packages are only unpacked, never installed or imported. Each model is a bare file to the
server: nothing is known of it but what it says and what the probe finds. An answer must equal the
one of the same file in this process, bit for bit after its way through JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import numpy as np
import onnxruntime as ort
from zoo import MODELS, Arrays, Real

_PATIENCE = 60
_DATATYPES = {"f4": "FP32", "i8": "INT64", "i4": "INT32", "b1": "BOOL"}


def main(cache: str) -> None:
    """Fetch, serve and compare all models; exit 1 at the first that does not hold."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        for real in MODELS:
            content = contents(real, Path(cache))
            (repository / f"{real.name}.onnx").write_bytes(content)
        with served(repository) as client:
            lines = [line_of(real, repository / f"{real.name}.onnx", client) for real in MODELS]
    head = ("model", "package", "licence", "MB", "inputs", "opset", "rows independent", "max diff")
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    for line in (head, *lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    print(f"{len(MODELS)} models answer as ONNX Runtime does, in V1 and V2")


def contents(real: Real, cache: Path) -> bytes:
    """Return the model's file; its package is downloaded once."""
    if real.package == "onnxruntime":
        return (Path(ort.__file__).parent.parent / real.member).read_bytes()
    pattern = f"{real.package.replace('-', '_')}-{real.version}-*.whl"
    if not list(cache.glob(pattern)):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        wanted = f"{real.package}=={real.version}"
        command = [*pip, "--only-binary=:all:", "--dest", str(cache), wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{wanted} cannot be downloaded:\n{done.stderr}")
    (wheel,) = cache.glob(pattern)
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(real.member)


@contextmanager
def served(repository: Path) -> Iterator[httpx.Client]:
    """Start a real server and yield a client once all models are ready."""
    command = [sys.executable, "-m", "service", "serve", str(repository), "--port", "0"]
    command += ["--log-format", "json", "--readiness", "strict", "--drain-delay", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            log: IO[str] | None = server.stderr
            if log is None:
                sys.exit("the server has no log")
            address = str(json.loads(log.readline())["address"])
            # The log must be read on, or the server would wait for room in the pipe.
            threading.Thread(target=log.read, daemon=True).start()
            with httpx.Client(base_url=address, timeout=_PATIENCE) as client:
                wait_until_ready(client)
                yield client
        finally:
            server.terminate()


def wait_until_ready(client: httpx.Client) -> None:
    """Return when every model is ready; exit with the reasons if that takes too long."""
    answer = client.get("/v2/health/ready")
    until = time.monotonic() + _PATIENCE
    while answer.status_code != 200:
        if time.monotonic() > until or "FAILED" in answer.text:
            sys.exit(f"not ready: {answer.text}")
        time.sleep(0.1)
        answer = client.get("/v2/health/ready")


def line_of(real: Real, file: Path, client: httpx.Client) -> tuple[str, ...]:
    """Compare one model in both protocols and return its line of the table."""
    info = client.get(f"/v1/models/{real.name}/info").json()
    found = info["batching"]
    if found["rows_independent"] is not real.rows_independent:
        sys.exit(f"{real.name}: rows_independent is {found}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    feed = real.draw(np.random.default_rng(7))
    worst = compare_v1(real, session, feed, client)
    for _ in range(3 if real.state else 1):
        expected = run(session, feed)
        worst = max(worst, compare_v2(real, feed, expected, client))
        feed |= {into: expected[out] for out, into in real.state.items()}
    opsets = [f"{domain} {version}" for domain, version in info["model"]["opsets"].items()]
    return (
        real.name,
        f"{real.package} {real.version}",
        real.licence,
        f"{file.stat().st_size / 1e6:.1f}",
        " ".join(i["name"] for i in info["contract"]["inputs"])[:40],
        ", ".join(opsets),
        "yes" if found["rows_independent"] else f"no: {found['why'][:60]}",
        f"{worst:g}",
    )


def run(session: ort.InferenceSession, feed: Arrays) -> dict[str, Any]:
    """Return the outputs of one call in this process."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def compare_v2(
    real: Real, feed: Arrays, expected: Mapping[str, Any], client: httpx.Client
) -> float:
    """Ask for all outputs at once; those that are no tensors must be named as left out."""
    inputs = [
        {
            "name": name,
            "datatype": _DATATYPES[value.dtype.str[1:]],
            "shape": value.shape,
            "data": value.reshape(-1).tolist(),
        }
        for name, value in feed.items()
    ]
    answer = client.post(f"/v2/models/{real.name}/infer", json={"inputs": inputs})
    if answer.status_code != 200:
        sys.exit(f"{real.name}: V2 answers {answer.status_code}: {answer.text}")
    content = answer.json()
    found = {
        out["name"]: np.asarray(out["data"]).reshape(out["shape"]) for out in content["outputs"]
    }
    left_out = [name for name in expected if name not in found]
    if any(name not in content["parameters"]["left_out"] for name in left_out):
        sys.exit(f"{real.name}: {left_out} are missing without a word")
    return max(difference(real, name, found[name], expected[name]) for name in found)


def compare_v1(
    real: Real, session: ort.InferenceSession, feed: Arrays, client: httpx.Client
) -> float:
    """Ask row by row where the model has rows, else with the inputs as they are."""
    by_rows = all(node.shape and isinstance(node.shape[0], (str, type(None)))
                  for node in session.get_inputs())  # fmt: skip
    rows = len(next(iter(feed.values()))) if by_rows else 0
    plain = {name: value.tolist() for name, value in feed.items()}
    instances = [{n: v[row] for n, v in plain.items()} for row in range(rows)] or [plain]
    answer = client.post(f"/v1/models/{real.name}:predict", json={"instances": instances})
    if answer.status_code != 200:
        sys.exit(f"{real.name}: V1 answers {answer.status_code}: {answer.text}")
    predictions = answer.json()["predictions"]
    if len(predictions) != len(instances):
        sys.exit(f"{real.name}: {len(predictions)} predictions for {len(instances)} instances")
    worst = 0.0
    for row, prediction in enumerate(predictions):
        for name, value in expected_row(real, session, feed, row, rows).items():
            # Several outputs are an object keyed by output.
            found = prediction[name] if len(session.get_outputs()) > 1 else prediction
            worst = max(worst, difference(real, name, found, value))
    return worst


def expected_row(
    real: Real, session: ort.InferenceSession, feed: Arrays, row: int, rows: int
) -> dict[str, Any]:
    """Return one row of the answer: rows that are not independent run alone."""
    if not rows:
        return run(session, feed)
    if real.rows_independent:
        return {name: value[row] for name, value in run(session, feed).items()}
    alone = run(session, {name: value[row : row + 1] for name, value in feed.items()})
    return {name: value[0] if len(value) == 1 else value for name, value in alone.items()}


def difference(real: Real, name: str, found: object, expected: object) -> float:
    """Return the largest difference; exit if shapes differ, or anything is not equal."""
    if isinstance(expected, list):
        # A sequence of maps: scores by class, whose keys are texts in JSON.
        pairs = zip(expected, as_list(found), strict=True)
        same = all({str(k): v for k, v in want.items()} == narrow(got) for want, got in pairs)
        worst = 0.0
    else:
        want = np.asarray(expected)
        got = np.asarray(found).astype(want.dtype)
        same = got.shape == want.shape and got.tobytes() == want.tobytes()
        apart = np.abs(got.astype(np.float64) - want) if got.shape == want.shape else np.ones(1)
        worst = float(apart.max(initial=0.0))
    if not same:
        sys.exit(f"{real.name}: output '{name}' differs, at most by {worst:g}")
    return worst


def narrow(scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores as the FP32 numbers that they were."""
    return {key: float(np.float32(score)) for key, score in scores.items()}


def as_list(found: object) -> Sequence[Any]:
    """Return what must be a list."""
    return found if isinstance(found, list) else []


if __name__ == "__main__":
    main(*sys.argv[1:])
