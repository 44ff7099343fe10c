"""Figures of several workers as one: plain values in, plain values out.

A snapshot has ``families``, each ``{name, type, help, samples: [[name, labels, value]]}`` in
Prometheus' sense, and ``statistics``, rows of ``[model, version, counters]`` where a counter is a
number or a list ``[count, ns]``.  Counters and histograms are sums over all workers there have
been, gauges over the living; a version's state is the worst, its load the slowest and its proof
the farthest off; what all workers say of one graph or device is the largest of what they say; what
describes a process carries its worker's number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import add
from typing import Any, Final

from service.fleet import worst

Snapshot = dict[str, Any]
Family = dict[str, Any]
Sample = list[Any]
Key = tuple[str, tuple[tuple[str, str], ...]]

CUMULATIVE: Final = frozenset({"counter", "histogram"})
STATE_FAMILY: Final = "onnxport_model_state"
# Gauges that say the same of every worker, or of the slowest or the farthest off.
_HIGHEST: Final = frozenset({
    "onnxport_model_info", "onnxport_model_load_seconds", "onnxport_verification_max_error",
    "onnxport_model_nodes", "onnxport_model_fallback",
    "onnxport_device_memory_bytes", "onnxport_device_memory_used_bytes",
})  # fmt: skip
_OF_A_PROCESS: Final = ("process_", "python_")
_LATEST: Final = "last_inference"


def nothing() -> Snapshot:
    """Return the figures of nobody."""
    return {"families": [], "statistics": []}


def merge(live: Mapping[int, Snapshot], past: Snapshot) -> Snapshot:
    """Return the figures of all workers: the living by number, and what the dead have counted."""
    families: dict[str, Family] = {}
    for number, snapshot in sorted(live.items()):
        for family in snapshot["families"]:
            _add_family(families, _labelled(family, number))
    for family in past["families"]:
        _add_family(families, family)
    for name, family in families.items():
        samples = family["samples"]
        if name == STATE_FAMILY:
            family["samples"] = _worst_states(samples)
        else:
            family["samples"] = _added(samples, max if name in _HIGHEST else add)
    rows = [row for one in (*live.values(), past) for row in one["statistics"]]
    return {"families": list(families.values()), "statistics": _add_rows(rows)}


def bury(past: Snapshot, last: Snapshot) -> Snapshot:
    """Return the past with what one more worker had counted when it died."""
    counted = [
        family
        for family in last["families"]
        if family["type"] in CUMULATIVE and not family["name"].startswith(_OF_A_PROCESS)
    ]
    return merge({0: {"families": counted, "statistics": last["statistics"]}}, past)


def prune(past: Snapshot, known: set[tuple[str, int]]) -> Snapshot:
    """Return the past without versions that nobody knows any more: they have left the page."""

    def stays(sample: Sample) -> bool:
        labels = sample[1]
        if "model_name" not in labels:
            return True
        return (labels["model_name"], int(labels["model_version"])) in known

    families = [
        {**family, "samples": [sample for sample in family["samples"] if stays(sample)]}
        for family in past["families"]
    ]
    rows = [row for row in past["statistics"] if (row[0], row[1]) in known]
    return {"families": families, "statistics": rows}


def _labelled(family: Family, number: int) -> Family:
    if not family["name"].startswith(_OF_A_PROCESS):
        return family
    own = {"worker": str(number)}
    samples = [[name, {**labels, **own}, value] for name, labels, value in family["samples"]]
    return {**family, "samples": samples}


def _add_family(families: dict[str, Family], family: Family) -> None:
    held = families.setdefault(family["name"], {**family, "samples": []})
    # What a build is, is the same everywhere: one line says it.
    if family["type"] != "info" or not held["samples"]:
        held["samples"] += family["samples"]


def _added(samples: Sequence[Sample], together: Callable[[float, float], float]) -> list[Sample]:
    """Return one sample a series, in the order in which they first appeared."""
    sums: dict[Key, Sample] = {}
    for name, labels, value in samples:
        key = (name, tuple(sorted(labels.items())))
        if key in sums:
            sums[key][2] = together(sums[key][2], value)
        else:
            sums[key] = [name, labels, value]
    return list(sums.values())


def _worst_states(samples: Sequence[Sample]) -> list[Sample]:
    """Return the one-hot states of each version with only the worst of those that were set."""
    found: dict[tuple[str, str], list[str]] = {}
    for _, labels, value in samples:
        if value:
            version = (labels["model_name"], labels["model_version"])
            found.setdefault(version, []).append(labels["state"])
    chosen = {version: worst(states) for version, states in found.items()}
    return [
        [name, labels, float(chosen.get((labels["model_name"], labels["model_version"])) == state)]
        for name, labels, _ in _added(samples, max)
        if (state := labels["state"])
    ]


def _add_rows(rows: Sequence[list[Any]]) -> list[list[Any]]:
    sums: dict[tuple[str, int], dict[str, Any]] = {}
    for model, version, counters in rows:
        held = sums.get((model, version))
        sums[model, version] = dict(counters) if held is None else _add_counters(held, counters)
    return [[model, version, counters] for (model, version), counters in sorted(sums.items())]


def _add_counters(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Add member by member: numbers, lists of numbers, and objects of those."""
    added: dict[str, Any] = dict(one)
    for key, value in other.items():
        held = added.get(key)
        if held is None:
            added[key] = value
        elif isinstance(value, dict):
            added[key] = _add_counters(held, value)
        elif isinstance(value, list):
            added[key] = [a + b for a, b in zip(held, value, strict=True)]
        else:
            added[key] = max(held, value) if key == _LATEST else held + value
    return added
