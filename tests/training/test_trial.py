"""A new file's first run is a child's, and so is its crash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from service.isolation import Ended
from training.parity import ExportError
from training.trial import try_apart

from .tiny import write_softmax

FEED = {"x": np.ones((2, 3), np.float32)}


def test_a_file_that_runs_is_tried_for_real(tmp_path: Path) -> None:
    """And nothing stays beside it."""
    file = write_softmax(tmp_path / "x.onnx", ["n", 3])
    try_apart(file, FEED)
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_a_file_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    """With what ONNX Runtime says."""
    file = write_softmax(tmp_path / "x.onnx", ["n", 3])
    with pytest.raises(ExportError, match=r"tried in a process of its own, ended with exit code 1"):
        try_apart(file, {"x": np.ones((2, 4), np.float32)})
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_a_crash_is_reported_not_suffered(tmp_path: Path) -> None:
    """The child is asked with the file's path, and its signal is told."""
    asked: list[Sequence[str]] = []

    def crash(arguments: Sequence[str], seconds: float) -> Ended:
        asked.append(arguments)
        return Ended(-11, "", "", seconds)

    file = tmp_path / "x.onnx"
    with pytest.raises(ExportError, match="the process was ended by SIGSEGV"):
        try_apart(file, FEED, crash)
    assert asked[0][:2] == ["training.trial", str(file)]
