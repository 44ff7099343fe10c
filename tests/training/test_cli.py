"""What the command line of training promises to shells: texts, exit codes, one line an error."""

from __future__ import annotations

from pathlib import Path

from .tiny import say


def test_what_cannot_be_packed_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    """An export that is refused is an answer, not a crash."""
    said = say("pack", tmp_path / "no.onnx", "--inputs", tmp_path / "no.npz", "--name", "x")
    assert said.code == 1
    assert said.err.startswith(f"onnxport-train: {tmp_path / 'no.npz'}: ")
    assert said.err.count("\n") == 1
