"""Print the table of a training report and refuse a mean accuracy below its goal."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Take ``report.json=goal`` pairs, as ``onnxport-train --seeds ... --output json`` writes."""
    missed = []
    for argument in arguments:
        file, _, goal = argument.partition("=")
        report = json.loads(Path(file).read_text())
        values = [seed["accuracy"]["value"] for seed in report["seeds"]]
        seconds = [seed["training_seconds"] for seed in report["seeds"]]
        mean = report["accuracy_mean"]
        print(f"{report['name']}: mean {mean:.4f} of {values}, goal {goal}, seconds {seconds}")
        for baseline in report["baselines"]:
            print(f"  {baseline['name']}: {baseline['accuracy']:.4f}")
        if mean < float(goal):
            missed.append(report["name"])
    if missed:
        sys.exit(f"below the goal: {', '.join(missed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
