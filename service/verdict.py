"""What is known of a version's proof, as plain values: for the command line and over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FACTS = ("kind", "digest", "batching", "files", "admission")


def verdict_of(
    name: str, version: int, info: Mapping[str, Any], *, code: str = "", reason: str = ""
) -> dict[str, Any]:
    """Return how the proof of a version went.

    ``info`` is its model-info, empty where nothing was admitted; then ``code`` and ``reason`` say
    why.  The status is "passed", "failed", "skipped" or, while nothing is known, "pending".
    """
    head = {"name": name, "version": version}
    proof = dict(info.get("verification", {}))
    if not proof:
        proof = {"status": "failed", "code": code, "reason": reason} if code else {}
    elif code:
        # It answers as it was proved; what should take its place was refused.
        proof["replacement"] = {"status": "failed", "code": code, "reason": reason}
    facts = {key: info[key] for key in _FACTS if key in info}
    if info:
        facts["provider"] = info["runtime"]["provider"]
    return {**head, **(proof or {"status": "pending"}), **facts}
