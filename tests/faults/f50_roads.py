"""F50: every road with no key, a wrong one, one of another scope and the right one; and timing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from starlette.routing import Route

from service.access import ALL_SCOPES, Identity
from service.app import create_app
from service.authority import Authority, FixedKeys
from service.keys import Key, digest_of
from service.settings import Settings
from service.web.roads import RoadRoute
from service.web.security import SCOPE, Access
from tests.faults.hostile import repository
from tests.faults.rig import Report, address_of, request, serving
from tests.support.access import secret, toml

ROUNDS = 10_000
NAMES = {"name": "doubler", "version": "1", "label": "l", "verb": "other"}


def _roads() -> list[tuple[str, str, Access]]:
    """Return method, path and kind of every route that an application has."""
    with TemporaryDirectory() as folder:
        repository(Path(folder))
        app = create_app(Settings(repository=Path(folder)))
    found = []
    for route in app.routes:
        assert isinstance(route, Route)
        assert isinstance(route, RoadRoute), f"{route.path} has no policy"
        path = route.path_format.format(**NAMES)
        found += [(method, path, route.access) for method in route.methods or {"GET"}]
    return found


async def _status(address: tuple[str, int], method: str, path: str, key: str) -> int:
    head = f"authorization: Bearer {secret(key)}\r\n" if key else ""
    reader, writer = await asyncio.open_connection(*address)
    body = None if method in ("GET", "HEAD") else b"{}"
    writer.write(request(path, body, head=head + "connection: close\r\n", method=method))
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def walk(address: tuple[str, int], report: Report) -> None:
    """Print how many roads are open to whom."""
    roads = _roads()
    wrong: list[str] = []
    opened: Counter[str] = Counter()
    for method, path, access in roads:
        scope = SCOPE[access]
        others = [one for one in ("predict", "read", "metrics", "admin") if one != scope]
        right = str(scope) if scope else "read"
        for key, expected in [
            ("", 401), ("unknown", 401), ("expired", 401), *((one, 403) for one in others),
        ]:  # fmt: skip
            status = await _status(address, method, path, key)
            if access is Access.HEALTH:
                expected = 200  # noqa: PLW2901 - probes need no key
            if (status in (401, 403)) != (expected != 200) or expected not in (200, status):
                wrong.append(f"{method} {path} {key!r}: {status}, expected {expected}")
        status = await _status(address, method, path, right)
        opened[right] += status not in (401, 403)
        if status in (401, 403):
            wrong.append(f"{method} {path} with the right key: {status}")
    report.figure("roads", len(roads))
    report.figure("opened by the right key", dict(opened))
    report.figure("wrong answers", wrong[:5] or 0, good=not wrong, goal="0")


def timing(report: Report) -> None:
    """Print whether time tells how much of a key's hash is right."""
    key = b"k" * 40
    digest = digest_of(key)
    sources = {}
    for right in (0, 16, 31):
        other = digest[:right] + bytes(b ^ 255 for b in digest[right:])
        keys = [Key(other, Identity("a", ALL_SCOPES))]
        sources[right] = Authority([FixedKeys(keys)])
    times: dict[int, list[int]] = {right: [] for right in sources}
    for _ in range(ROUNDS):
        for right, authority in sources.items():
            begun = time.perf_counter_ns()
            authority.identify(key)
            times[right].append(time.perf_counter_ns() - begun)
    medians = {right: median(values) for right, values in times.items()}
    spread = max(medians.values()) / min(medians.values()) - 1
    report.figure("medians in ns by bytes that are right", medians)
    report.figure("spread of the medians", f"{spread:.1%}", good=spread <= 0.01, goal="1%")


def main() -> None:
    """Print the figures."""
    report = Report("F50")
    with TemporaryDirectory() as folder:
        keys = Path(folder, "keys.toml")
        single = [toml(one, scopes=f'["{one}"]') for one in ("predict", "read", "metrics", "admin")]
        keys.write_text("".join(single) + toml("expired", expires="2020-01-01"))
        with serving(repository, "--keys-file", keys, "--workers", 1) as server:
            asyncio.run(walk(address_of(server), report))
    timing(report)
    report.close()


if __name__ == "__main__":
    main()
