"""One provider tried for real, as a process of its own: ``python -m service.attempt cuda``.

A driver or a library that does not fit may hang or end the process, which then is not the asker's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson

from service import cuda, modelfile
from service.engine import EngineOptions, OrtEngine
from service.errors import ServiceError

_MAPS = Path("/proc/self/maps")
_VENDOR = ("libcu", "libnv")


def attempt(provider: str) -> dict[str, object]:
    """Run a small model on the provider alone; return whether it did, and on which libraries.

    ``missing`` names what the loader does not find, each with its reason: the driver, or where
    there is one the libraries.
    """
    reason = ""
    try:
        with TemporaryDirectory(prefix="onnxport-") as folder:
            _run(Path(folder) / "trial.onnx", provider)
    except ServiceError as error:
        reason = str(error)
    missing: dict[str, str] = {}
    if reason and provider == "cuda":
        missing = cuda.missing_libraries([cuda.DRIVER]) or cuda.missing_libraries(cuda.LIBRARIES)
    return {"loads": not reason, "reason": reason, "missing": missing, "libraries": _mapped()}


def _run(file: Path, provider: str) -> None:
    modelfile.write_trial(file)
    engine = OrtEngine(str(file), EngineOptions((provider,)))
    engine.run({"x": np.ones((1, 1, 4, 4), np.float32)}, ["y"])
    engine.close()


def _mapped(maps: Path = _MAPS) -> list[str]:
    """Return the vendor's libraries that this process really uses."""
    paths = {line.split()[-1] for line in maps.read_text().splitlines() if "/" in line}
    return sorted(path for path in paths if Path(path).name.startswith(_VENDOR))


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(attempt(sys.argv[1])))
