"""F03: one key of ten asks without end; the others must not suffer, with a quota and without."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.crowd import Crowd, Seen
from tests.faults.rig import Report, address_of, infer_body, request, serving
from tests.support.access import secret, toml
from tests.support.graphs import write_loop

POLITE = tuple(f"polite-{number}" for number in range(9))
SECONDS = 8.0
INFER = "/v2/models/slow/infer"


def slow(root: Path) -> object:
    """Put a model of some 30 ms a run into a repository."""
    return write_loop(root / "slow.onnx", 12_000)


def _crowd(address: tuple[str, int], key: str) -> Crowd:
    head = f"authorization: Bearer {secret(key)}\r\n"
    return Crowd(address, request(INFER, infer_body(), head=head))


async def measure(address: tuple[str, int], report: Report, name: str) -> None:
    """Print the figures of one key file."""
    greedy = _crowd(address, "greedy")
    peak = max(20.0, await greedy.saturate(3, 24))
    each = peak * 0.4 / len(POLITE)
    crowds = [_crowd(address, key) for key in POLITE]
    loads = [crowd.send(each, SECONDS) for crowd in crowds]
    *polite, flood = await asyncio.gather(*loads, greedy.send(peak * 10, SECONDS))
    asked = sum(len(one.good) + _failed(one) for one in polite)
    served = sum(len(one.good) for one in polite) / max(1, asked)
    report.figure(f"{name}: polite keys served", f"{served:.2%}", good=served >= 0.99, goal="99%")
    told = len(flood.refusals)
    report.figure(f"{name}: greedy key", f"{len(flood.good)} answered, {told} refused",
                  good=told > 0)  # fmt: skip
    report.figure(f"{name}: malformed refusals", flood.malformed, good=not flood.malformed,
                  goal="0")  # fmt: skip


def _failed(seen: Seen) -> int:
    return seen.late + len(seen.refusals) + len(seen.other) + seen.lost + seen.unsent


def main() -> None:
    """Print the figures."""
    report = Report("F03")
    quota = toml("greedy", more="rate = 50\nconcurrency = 20\n")
    flags = ("--max-batch-rows", 8, "--workers", 1, "--threads", 1, "--deadline", 2)
    for name, greedy in (("with a quota", quota), ("without", toml("greedy"))):
        with TemporaryDirectory() as folder:
            keys = Path(folder, "keys.toml")
            keys.write_text(greedy + toml(*POLITE))
            with serving(slow, "--keys-file", keys, *flags, core=0) as server:
                asyncio.run(measure(address_of(server), report, name))
    report.close()


if __name__ == "__main__":
    main()
