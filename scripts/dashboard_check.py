"""Hold Grafana dashboards against Grafana's own models; in an environment that has its SDK.

    dashboard_check FILE...

What the models do not know does not come back from them, so a misspelt key is seen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(sent: object, back: object, path: str = "") -> Iterator[str]:
    """Yield where what came back differs from what was sent; additions are defaults."""
    if isinstance(sent, dict) and isinstance(back, dict):
        for key, value in sent.items():
            if key in back:
                yield from lost(value, back[key], f"{path}.{key}")
            else:
                yield f"{path}.{key} is unknown"
    elif isinstance(sent, list) and isinstance(back, list) and len(sent) == len(back):
        for index, (one, other) in enumerate(zip(sent, back, strict=True)):
            yield from lost(one, other, f"{path}[{index}]")
    elif sent != back:
        yield f"{path}: {sent!r} became {back!r}"


def main(files: list[str]) -> None:
    """Check each; the first that does not hold ends it."""
    plugins.register_default_plugins()
    for file in files:
        sent = json.loads(Path(file).read_text())
        back = json.loads(JSONEncoder().encode(Dashboard.from_json(sent)))
        if faults := list(lost(sent, back)):
            raise SystemExit(f"{file}: {'; '.join(faults)}")
        numbers = [panel["id"] for panel in sent["panels"]]
        if len(set(numbers)) != len(numbers):
            raise SystemExit(f"{file}: two panels have one id")
        print(f"{file}: {len(numbers)} panels hold against Grafana's models")


if __name__ == "__main__":
    main(sys.argv[1:])
