"""A real server in a child process, started as a user starts it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

PATIENCE = 120.0
_ROOT = Path(__file__).parents[2]
_END = ""


class RealServer:
    """A running ``onnxport serve``; its log lines arrive as they are written."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        """Begin to read the log, since a full pipe would stop the server."""
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        self._last = "none"
        self._reader = threading.Thread(target=self._read, args=(log,), daemon=True)
        self._reader.start()
        self.announced = self.logged("listening")
        self.address = str(self.announced["address"])

    def _read(self, log: IO[str]) -> None:
        for line in log:
            self._lines.put(line)
        self._lines.put(_END)

    def line(self) -> dict[str, Any]:
        """Wait for the next line of the log and return it."""
        line = self._lines.get(timeout=PATIENCE)
        if line == _END:
            raise AssertionError(f"the server ended, its last line was {self._last}")
        self._last = line
        return dict(json.loads(line))

    def logged(self, message: str) -> dict[str, Any]:
        """Wait for the next line with this message and return it."""
        while (record := self.line())["message"] != message:
            pass
        return record

    def rest(self) -> list[dict[str, Any]]:
        """Wait for the end of the log and return the lines that nobody has asked for."""
        lines = []
        while (line := self._lines.get(timeout=PATIENCE)) != _END:
            lines.append(dict(json.loads(line)))
        return lines

    def ended(self) -> int:
        """Wait for the process to end and return its exit code."""
        return self.process.wait(PATIENCE)


@contextmanager
def real_server(*arguments: object) -> Iterator[RealServer]:
    """Start a server on a free port, yield it once it listens, and leave nothing behind.

    It runs in an empty folder and without variables of ours, so that no settings are found.
    """
    command = [sys.executable, "-m", "service", "serve", *map(str, arguments), "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ONNXPORT_")}
    environment["PYTHONPATH"] = str(_ROOT)
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(
            command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            assert process.stderr is not None
            yield RealServer(process, process.stderr)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
