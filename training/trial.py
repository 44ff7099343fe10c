"""A new model file's first run, in a process of its own: a valid file can end the one it is in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.isolation import RunChild, run_module
from training.evaluate import open_session
from training.parity import ExportError

_SECONDS = 120.0


def try_apart(file: Path, inputs: Mapping[str, NDArray[Any]], run: RunChild = run_module) -> None:
    """Load the file and run it once in a child; raise ExportError with what happened to it."""
    feed = file.with_name(f".{file.name}.trial.npz")
    arrays: dict[str, Any] = dict(inputs)
    np.savez(feed, allow_pickle=False, **arrays)
    try:
        ended = run(["training.trial", str(file), str(feed)], _SECONDS)
    finally:
        feed.unlink()
    if ended.problem:
        raise ExportError(
            f"the exported file cannot be run by ONNX Runtime: tried in a process of its own, "
            f"{ended.problem}"
        )


def main(file: Path, feed: Path) -> None:
    """Load and run, as this process's only business."""
    session = open_session(file)
    with np.load(feed, allow_pickle=False) as arrays:
        session.run(None, dict(arrays))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
