"""Refuse bundles whose accuracy on the test split is below a floor: floors.py models/a=0.9 ..."""

from __future__ import annotations

import sys
from pathlib import Path

from training.bundles import compare, find_bundle


def main(arguments: list[str]) -> None:
    """Print one line a bundle; exit 1 if one is below its floor."""
    low = []
    for argument in arguments:
        path, _, floor = argument.partition("=")
        (found,) = compare([find_bundle(Path(path))])
        if found.accuracy is None:
            sys.exit(f"{path}: has no accuracy in its metrics.json")
        value = found.accuracy["value"]
        seconds = found.training_seconds or 0.0
        print(f"{found.bundle}: accuracy {value:.4f}, floor {floor}, trained in {seconds:.0f} s")
        if value < float(floor):
            low.append(found.bundle)
    if low:
        sys.exit(f"below the floor: {', '.join(low)}")


if __name__ == "__main__":
    main(sys.argv[1:])
