"""Fuzzes the decoders by coverage: ``python -m tests.faults.fuzz v2|v1|binary [-runs=N]``.

Bytes of anybody may end in a value or in one of the declared errors of a request, in nothing else.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.faults.bodies import bodies
from tests.faults.corpus import BINARY

# What a decoder may say of a request, by the codes of its errors.
DECLARED = frozenset({"invalid_request", "too_large", "not_built", "unsupported_media_type"})
MAX_DEPTH = 32
_SEEDS = 500
Target = Callable[[bytes], object]


def targets() -> dict[str, Target]:
    """Return the decoders by name; imported here, so that they can be instrumented."""
    binary: Any = importlib.import_module("service.web.binary")
    content: Any = importlib.import_module("service.web.content")
    skim: Any = importlib.import_module("service.web.skim")
    wire: Any = importlib.import_module("service.web.wire")
    skimmer = skim.Skimmer()

    def v2(data: bytes) -> object:
        return wire.decode(data, max_depth=MAX_DEPTH, skimmer=skimmer)

    def with_binary(data: bytes) -> object:
        header, _, body = data.partition(b"\n")
        length = binary.json_length(header, len(body))
        return wire.decode(body, json_bytes=length, max_depth=MAX_DEPTH, skimmer=skimmer)

    def v1(data: bytes) -> object:
        kind, _, body = data.partition(b"\n")
        headers = {b"content-type": kind}
        return content.received(headers, body, max_depth=MAX_DEPTH, skimmer=skimmer)

    return {"v2": v2, "binary": with_binary, "v1": v1}


def fed(name: str, content: bytes) -> bytes:
    """Return what of a request a decoder is given."""
    head, _, body = content.partition(b"\r\n\r\n")
    marker = BINARY.encode() + b": "
    said = [line.removeprefix(marker) for line in head.split(b"\r\n") if line.startswith(marker)]
    first = {"v2": b"", "v1": b"application/json\n", "binary": (said or [b""])[0] + b"\n"}
    return first[name] + body


def checked(target: Target, error: type[Exception]) -> Callable[[bytes], None]:
    """Return a decoder that passes over the declared errors."""

    def run(data: bytes) -> None:
        try:
            target(data)
        except error as refusal:
            if getattr(refusal, "code", "") not in DECLARED:
                raise

    return run


def main() -> None:
    """Run until something else happens, or as often as was said."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["service"]):
        found = targets()
        errors: Any = importlib.import_module("service.errors")
    name, *options = sys.argv[1:]
    with TemporaryDirectory() as folder:
        # Random bytes alone never become JSON.
        for number, content in enumerate(bodies(1, _SEEDS)):
            Path(folder, str(number)).write_bytes(fed(name, content))
        arguments = [sys.argv[0], folder, *options]
        atheris.Setup(arguments, checked(found[name], errors.ServiceError))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
