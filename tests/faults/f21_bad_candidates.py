"""F21: bad candidates of many kinds beside a version that serves, under load."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from onnx import TensorProto, helper

from service.bundle import Bundle
from tests.faults.harness import Caller, Load, pace, report, served, until
from tests.faults.texts import MODEL, ask, make_bundle
from tests.support.models import resealed, value
from tests.support.servers import RealServer

Damage = Callable[[Bundle], None]


def damaged(bundle: Bundle) -> None:
    """Change one byte of the model."""
    file = bundle.path / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncated(bundle: Bundle) -> None:
    """Keep the first half of the model, and a list that says so much."""
    file = bundle.path / "model.onnx"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    resealed(bundle)


def wrong_hash(bundle: Bundle) -> None:
    """Write another digit into a hash."""
    file = bundle.path / "bundle.json"
    text = file.read_text()
    old = bundle.manifest.files["model.onnx"].sha256
    file.write_text(text.replace(old, old[:-1] + ("0" if old[-1] != "0" else "1")))


def swapped(bundle: Bundle) -> None:
    """Give two files each other's content, padded to their sizes."""
    one, other = bundle.path / "model.onnx", bundle.path / "golden.npz"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second[: len(first)].ljust(len(first), b"\0"))
    other.write_bytes(first[: len(second)].ljust(len(second), b"\0"))


def missing_file(bundle: Bundle) -> None:
    """Leave out the golden vectors, and list what is left."""
    (bundle.path / "golden.npz").unlink()
    resealed(bundle)


def extra_file(bundle: Bundle) -> None:
    """Add a file that nobody has listed."""
    (bundle.path / "more.bin").write_bytes(b"x")


def wrong_outputs(bundle: Bundle) -> None:
    """Promise an output that the graph does not have."""
    resealed(bundle, outputs=[{"name": "other", "datatype": "FP32", "shape": ["batch", 2]}])


def wrong_inputs(bundle: Bundle) -> None:
    """Promise an input that the graph does not have."""
    shape = ["batch", "time"]
    resealed(bundle, inputs=[{"name": "words", "datatype": "INT64", "shape": shape}])


def unknown_operator(bundle: Bundle) -> None:
    """Use an operator that no runtime has."""
    graph = helper.make_graph(
        [helper.make_node("Conjure", ["tokens"], ["scores"], domain="nobody.knows")],
        "graph",
        [value("tokens", TensorProto.INT64, "batch", "time")],
        [value("scores", TensorProto.FLOAT, "batch", 2)],
    )
    domain = helper.make_opsetid("nobody.knows", 1)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), domain])
    (bundle.path / "model.onnx").write_bytes(model.SerializeToString())
    resealed(bundle)


def no_model(bundle: Bundle) -> None:
    """Put something else where the model should be."""
    (bundle.path / "model.onnx").write_bytes(b"not a model")
    resealed(bundle)


def not_a_manifest(bundle: Bundle) -> None:
    """Write JSON that lists nothing."""
    (bundle.path / "bundle.json").write_text('{"files": 7}\n')


KINDS: tuple[Damage, ...] = (
    damaged, truncated, wrong_hash, swapped, missing_file, extra_file, wrong_outputs, wrong_inputs,
    unknown_operator, no_model, not_a_manifest,
)  # fmt: skip
# From when the files are there: they must be seen twice, half an interval apart.
REASON_WITHIN = 2.5


async def try_one(caller: Caller, repository: Path, version: int, damage: Damage) -> float:
    """Put a candidate in place and return how long it took until its reason was to be seen."""
    with TemporaryDirectory(dir=repository.parent) as folder:
        bundle = make_bundle(Path(folder))
        damage(bundle)
        target = repository / MODEL / str(version)
        bundle.path.rename(target)

    async def told() -> bool:
        return (await caller.states()).get((MODEL, str(version)), "").startswith("UNAVAILABLE: ")

    seconds = await until(told, 15)
    shutil.rmtree(target)

    async def gone() -> bool:
        return (MODEL, str(version)) not in await caller.states()

    await until(gone, 15)
    return seconds


async def run(server: RealServer, repository: Path, candidates: int) -> int:
    """Try candidates in turn while callers ask for what serves."""
    with TemporaryDirectory(dir=repository.parent) as folder:
        good = make_bundle(Path(folder))
        (repository / MODEL).mkdir()
        good.path.rename(repository / MODEL / "1")
    caller, over = Caller(server.address), asyncio.Event()

    async def ready() -> bool:
        return (await caller.states()).get((MODEL, "1")) == "READY"

    await until(ready, 30)
    asking = asyncio.create_task(pace(server.address, ask, callers=4, rate=10, until=over))
    seconds = [
        await try_one(caller, repository, 2 + number, KINDS[number % len(KINDS)])
        for number in range(candidates)
    ]
    over.set()
    load = await asking
    caller.close()
    return _report(server, load, seconds)


def _report(server: RealServer, load: Load, seconds: list[float]) -> int:
    errors = [line["message"] for line in server.so_far() if line["level"] == "error"]
    told = [message for message in errors if message.startswith(f"model {MODEL} version")]
    seen = [one for one in seconds if one != float("inf")]
    figures = {
        "candidates": len(seconds),
        "kinds": len(KINDS),
        "requests": len(load.seconds),
        "failed": len(load.failures),
        "first": load.failures[:3],
        "with_reason": len(seen),
        "reason_seconds_worst": round(max(seen, default=0), 2),
        "error_lines": len(errors),
    }
    goals = {
        "failed": not load.failures,
        "reasons": len(seen) == len(seconds),
        "in time": max(seen, default=0) <= REASON_WITHIN,
        "each told once": len(told) == len(errors) == len(seconds),
    }
    return report("F21", figures, goals)


def main() -> None:
    """Do it and exit 1 if a goal is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--candidates", type=int, default=200)
    given = options.parse_args()
    with served("--workers", 2) as (server, repository):
        code = asyncio.run(run(server, repository, given.candidates))
    raise SystemExit(code)


if __name__ == "__main__":
    main()
