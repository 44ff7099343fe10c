"""F46: random damage to a bundle; nothing is accepted but what is byte for byte the bundle."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from service.bundle import GOLDEN_FILE, MANIFEST_FILE
from service.cpu import usable_cores
from service.errors import ServiceError
from service.loader import LoadOptions, load_model
from service.repository import scan
from tests.support import models, mutants

_MARKS = (MANIFEST_FILE, GOLDEN_FILE)
_NO_BUNDLE = "not a bundle any more"
_AT_ONCE = 250


def outcome_of(root: Path) -> str:
    """Return the code with which what lies at a path is refused, "accepted" if it is not."""
    found = scan(root)
    if not found or not any((found[0].path / name).exists() for name in _MARKS):
        # Manifest and vectors are both gone: nothing is left that claims to be a bundle.
        return _NO_BUNDLE
    try:
        load_model(found[0], LoadOptions(max_rows=2), lambda _: None).engine.close()
    except ServiceError as error:
        return error.code
    return "accepted"


def try_seeds(files: dict[str, bytes], seeds: range) -> list[tuple[str, bool]]:
    """Return for each seed how its mutant ends, and whether it is equal to the bundle."""
    outcomes = []
    with TemporaryDirectory() as folder:
        root = Path(folder) / "r"
        for seed in seeds:
            mutant = mutants.mutate(files, seed)
            mutants.write(mutant, root / "m" / "1")
            outcomes.append((outcome_of(root), mutant == files))
    return outcomes


def main() -> None:
    """Print the figures on one line; exit 1 if a damaged bundle was accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=10_000)
    parser.add_argument("--bundle", type=Path, help="the folder of a version; a small one if not")
    asked = parser.parse_args()
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        made = asked.bundle or models.picture_bundle(Path(folder)).path
        files = mutants.files_of(made)
    parts = [range(s, min(s + _AT_ONCE, asked.count)) for s in range(0, asked.count, _AT_ONCE)]
    with ProcessPoolExecutor(usable_cores(), mp_context=get_context("spawn")) as pool:
        outcomes = [one for part in pool.map(partial(try_seeds, files), parts) for one in part]
    equal = sum(same for _, same in outcomes)
    accepted = sum(code == "accepted" and not same for code, same in outcomes)
    line = {
        "fault": "F46 mutants",
        "passed": accepted == 0,
        "mutants": len(outcomes),
        "byte_equal": equal,
        "accepted": accepted,
        "codes": dict(Counter(code for code, _ in outcomes).most_common()),
        "seconds": round(time.monotonic() - began, 1),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.exit(0 if accepted == 0 else 1)


if __name__ == "__main__":
    main()
