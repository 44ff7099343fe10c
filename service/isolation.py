"""Processes of our own for what may crash or hang: started, given a time, and judged by their end.

A model file or a vendor's library can end the process that loads it; a child makes that a sentence.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.children import command_of, environment, exit_words

_LONGEST = 500
_RUNTIME_LOG = ":onnxruntime:"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit code, None where its time was over, and what it wrote."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def problem(self) -> str:
        """What went wrong, in words; "" for an exit code of 0."""
        if self.code == 0:
            return ""
        if self.code is None:
            return f"did not end within {self.seconds:g} s"
        if self.code < 0:
            return f"the process was ended {exit_words(self.code)}"
        last = (_own_lines(self.err) or ["it wrote nothing"])[-1][:_LONGEST]
        return f"ended with exit code {self.code}: {last}"


RunChild = Callable[[Sequence[str], float], Ended]


def run_module(arguments: Sequence[str], seconds: float) -> Ended:
    """Run ``python -m`` with these arguments for at most so many seconds.

    The child gets this process's environment and folder, and nothing to read.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own modules
            command_of(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            env=environment() | {"PYTHONUTF8": "1"},
        )
    except subprocess.TimeoutExpired as error:
        return Ended(None, _text(error.stdout), _text(error.stderr), seconds)
    return Ended(done.returncode, _text(done.stdout), _text(done.stderr), seconds)


def _own_lines(text: str) -> list[str]:
    """Return the lines but those of ONNX Runtime's log, which go on after the reason was told."""
    return [line for line in text.strip().splitlines() if _RUNTIME_LOG not in line]


def _text(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", "replace")
