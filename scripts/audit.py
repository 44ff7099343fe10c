"""Read what pip-audit found: audit.py NAME REPORT; exit 1 for a vulnerability.

A package that the database did not answer for was not audited, though pip-audit finds nothing to
say of it.  With the variable AUDIT=required that is exit 1, too.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """What is known of the packages of one lock."""

    audited: int
    skipped: Sequence[str]
    vulnerable: Sequence[str]


def verdict(report: Mapping[str, Any]) -> Verdict:
    """Return what a report of pip-audit in JSON says."""
    packages = report["dependencies"]
    asked = [p for p in packages if "skip_reason" not in p]
    return Verdict(
        audited=len(asked),
        skipped=[p["name"] for p in packages if "skip_reason" in p],
        vulnerable=[
            f"{p['name']} {p['version']}: {', '.join(v['id'] for v in p['vulns'])}"
            for p in asked
            if p["vulns"]
        ],
    )


def main(name: str, report: Path) -> int:
    """Print the verdict and return the exit code."""
    required = os.environ.get("AUDIT") == "required"
    try:
        found = verdict(json.loads(report.read_bytes()))
    except ValueError:
        print(f"audit of {name}: not done, the database of advisories gave no answer")
        return int(required)
    print(f"audit of {name}: {found.audited} answered for, {len(found.vulnerable)} vulnerable")
    if found.skipped:
        print(f"audit of {name}: no answer for {len(found.skipped)}: {', '.join(found.skipped)}")
    for line in found.vulnerable:
        print(f"audit of {name}: {line}")
    return int(bool(found.vulnerable) or (required and bool(found.skipped)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
