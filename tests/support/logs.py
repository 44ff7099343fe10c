"""What a test sees of the log."""

from __future__ import annotations

import json
from io import StringIO


def lines(log: StringIO, logger: str = "onnxport.access") -> list[dict[str, object]]:
    """Return the lines of one logger."""
    every = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in every if line["logger"] == logger]
