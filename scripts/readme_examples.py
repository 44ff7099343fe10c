"""Run the examples of a document against a server of models/, and compare what they answer.

An example is a line ``$ curl ...`` in a console block; what follows it, up to the next line that
begins with ``$`` or the end of the block, is the answer. Numbers may differ, since another machine
trains another network; labels, keys, texts and lengths of lists may not.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

ADDRESS = "http://127.0.0.1:8080"
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PATIENCE = 120


def main(document: str) -> None:
    """Serve, run all examples, and exit 1 at the first answer that is not as written."""
    server = subprocess.Popen(
        [
            Path(sys.executable).with_name("onnxport"),
            "serve",
            "--port",
            "0",
            "--log-format",
            "json",
            "--drain-delay",
            "0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    log = server.stderr
    if log is None:
        sys.exit("the server has no log")
    try:
        address = _address(log)
        # The log must be read on, or the server would wait for room in the pipe.
        threading.Thread(target=log.read, daemon=True).start()
        retry = f"--retry {_PATIENCE} --retry-delay 1 --retry-all-errors"
        _curl(f"curl -sf {retry} {address}/v2/health/ready")
        count = 0
        for command, expected in examples(Path(document).read_text(encoding="utf-8")):
            found = _curl(command.replace(ADDRESS, address))
            _compare(json.loads(expected), json.loads(found), command)
            count += 1
        if not count:
            sys.exit(f"{document}: holds no example")
        print(f"{document}: {count} examples answer as written")
    finally:
        server.terminate()
        server.wait(timeout=60)


def examples(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command with the answer that the document shows."""
    for block in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, answer = _divided(part)
            if command.startswith("curl") and answer:
                yield command, answer


def _divided(part: str) -> tuple[str, str]:
    lines = part.splitlines()
    last = next(i for i, line in enumerate(lines) if not line.endswith("\\"))
    return "\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :]).strip()


def _address(log: Iterable[str]) -> str:
    for line in log:
        entry = json.loads(line)
        if "address" in entry:
            return str(entry["address"])
    sys.exit("the server ended before it listened")


def _curl(command: str) -> str:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command}\nexit {done.returncode}: {done.stderr}")
    return done.stdout


def _compare(expected: object, found: object, where: str) -> None:
    """Exit unless the two have the same texts, keys and lengths."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if list(expected) != list(found):
            sys.exit(f"{where}\nexpected keys {list(expected)}, got {list(found)}")
        for key, value in expected.items():
            _compare(value, found[key], f"{where}\n  {key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for one, other in zip(expected, found, strict=True):
            _compare(one, other, where)
    elif isinstance(expected, float) and isinstance(found, (int, float)):
        pass
    elif expected != found:
        sys.exit(f"{where}\nexpected {expected!r}, got {found!r}")


if __name__ == "__main__":
    main(sys.argv[1])
