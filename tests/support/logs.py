"""What a test sees of the log."""

from __future__ import annotations

import json
import logging
from io import StringIO


def lines(log: StringIO, logger: str = "onnxport.access") -> list[dict[str, object]]:
    """Return the lines of one logger, those that wait for the loop's next turn included."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    every = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in every if line["logger"] == logger]
