"""A virtual environment for each server of others, made at first use and kept."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.cases import EXPENSIVE
from benchmarks.errors import ServerUnusable
from benchmarks.servers import ROOT, Site

FOLDER = Path(__file__).parent
APPS = FOLDER / "apps"
_STAMP = ".installed"


def requirements(peer: str) -> Path:
    """Return the file with the peer's pinned packages."""
    return FOLDER / "requirements" / f"{peer}.txt"


def pinned(peer: str, package: str) -> str:
    """Return the version of ``package`` that the peer's file pins.

    Raises ServerUnusable if it pins none.
    """
    for line in requirements(peer).read_text().splitlines():
        name, _, version = line.partition("==")
        if name.lower() == package:
            return version
    raise ServerUnusable(f"{requirements(peer).name} pins no version of '{package}'")


def installed(peer: str) -> Path:
    """Return the folder of the peer's environment, installed anew when its file changed.

    Raises ServerUnusable with pip's last words.
    """
    folder = ROOT / ".venvs" / f"bench-{peer}"
    wanted = hashlib.sha256(requirements(peer).read_bytes()).hexdigest()
    stamp = folder / _STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    _call([sys.executable, "-m", "venv", "--clear", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _call([*pip, "--disable-pip-version-check", "-r", str(requirements(peer))])
    stamp.write_text(wanted)
    return folder


def instances(site: Site) -> dict[str, int]:
    """Return how many workers each model gets of a server that batches in front of them."""
    return {name: site.cores if name in EXPENSIVE else 1 for name in site.models}


def variables(site: Site) -> dict[str, str]:
    """Return what `shared_app` reads."""
    models = {name: str(file) for name, file in site.models.items()}
    return {
        "BENCHMARK_MODELS": json.dumps(models),
        "BENCHMARK_CORES": str(site.cores),
        "BENCHMARK_INSTANCES": json.dumps(instances(site)),
        "PYTHONPATH": str(APPS),
    }


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerUnusable(f"it cannot be installed: {done.stderr.strip()[-400:]}")
