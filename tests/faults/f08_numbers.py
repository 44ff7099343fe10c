"""F08: eight megabytes of JSON numbers in one call, while others ask for health."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from onnx import TensorProto

from tests.faults.rig import Probe, Report, address_of, quantile, read_answer, request, serving
from tests.support.models import write_identity
from tests.support.servers import RealServer

NUMBERS = 800_000
CALLS = 8


def wide(root: Path) -> object:
    """Put a model into a repository that gives back rows of any width."""
    return write_identity(root / "wide.onnx", TensorProto.FLOAT, ["n", "w"])


async def measure(server: RealServer, report: Report) -> None:
    """Print the figures."""
    address = address_of(server)
    calm = Probe(address)
    probing = asyncio.create_task(calm.run(0.02))
    await asyncio.sleep(2)
    probing.cancel()
    report.figure("p99 of health before", f"{calm.p99:.0f} ms")
    probe = Probe(address)
    probing = asyncio.create_task(probe.run(0.1))
    numbers = b",".join([b"0.12345678"] * NUMBERS)
    bodies = {
        "V2": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,%d],"data":[%b]}]}'
        % (NUMBERS, numbers),
        "V1": b'{"instances":[[%b]]}' % numbers,
    }
    paths = {"V2": "/v2/models/wide/infer", "V1": "/v1/models/wide:predict"}
    reader, writer = await asyncio.open_connection(*address)
    for name, body in bodies.items():
        seconds, statuses = [], set()
        for _ in range(CALLS):
            begun = time.monotonic()
            writer.write(request(paths[name], body))
            statuses.add((await read_answer(reader)).status)
            seconds.append(time.monotonic() - begun)
        p50 = quantile(seconds, 0.5)
        report.figure(
            f"{name}, {len(body) / 1e6:.1f} MB", f"{sorted(statuses)}, p50 {p50 * 1e3:.0f} ms"
        )
    probing.cancel()
    writer.close()
    p99 = probe.p99
    report.figure("p99 of health meanwhile", f"{p99:.0f} ms", good=p99 <= 100, goal="100 ms")


def main() -> None:
    """Print the figures."""
    report = Report("F08")
    with serving(wide, "--workers", 1) as server:
        asyncio.run(measure(server, report))
    report.close()


if __name__ == "__main__":
    main()
