"""Triton's metrics, under its names and in its units, for the dashboards that know them.

They are made of the statistics and of the outcomes that are counted anyway, when somebody asks.
prometheus_client cannot write them: its counters end in ``_total``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from service.statistics import Counters

# Why a request to a known model failed, in Triton's four words; what is not here is OTHER.
_REASONS: Final[Mapping[str, str]] = {
    "overloaded": "REJECTED",
    "deadline_exceeded": "REJECTED",
    "cancelled": "CANCELED",
    "engine_failure": "BACKEND",
}
_ALL_REASONS: Final = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
_REQUESTS: Final = "onnxport_requests"
_HELP: Final[Mapping[str, str]] = {
    "nv_inference_request_success": "Successful requests.",
    "nv_inference_request_failure": "Requests that failed, by reason.",
    "nv_inference_count": "Rows of successful requests.",
    "nv_inference_exec_count": "Runs of the model.",
    "nv_inference_request_duration_us": "Microseconds of successful requests.",
    "nv_inference_queue_duration_us": "Microseconds that they waited.",
    "nv_inference_compute_input_duration_us": "Microseconds that became their tensors.",
    "nv_inference_compute_infer_duration_us": "Microseconds of the runs that they were part of.",
    "nv_inference_compute_output_duration_us": "Microseconds that became their answers.",
}
Value = tuple[str, int]


def triton_page(
    statistics: Sequence[Sequence[Any]], families: Sequence[Mapping[str, Any]]
) -> bytes:
    """Return the families in text format 0.0.4; both arguments are those of a snapshot."""
    failures = _failures(families)
    values: dict[str, list[str]] = {name: [] for name in _HELP}
    for model, version, plain in statistics:
        labels = f'model="{_escaped(model)}",version="{version}"'
        counted = Counters.from_plain(plain)
        for name, value in _successes(counted):
            values[name].append(f"{name}{{{labels}}} {value}")
        for reason in _ALL_REASONS:
            count = failures.get((model, str(version), reason), 0)
            name = "nv_inference_request_failure"
            values[name].append(f'{name}{{{labels},reason="{reason}"}} {count}')
    lines = []
    for name, samples in values.items():
        lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} counter", *samples]
    return "".join(f"{line}\n" for line in lines).encode()


def _successes(counted: Counters) -> Iterator[Value]:
    """Yield what is counted of requests that succeeded, and of runs."""
    yield "nv_inference_request_success", counted.success.count
    yield "nv_inference_count", counted.rows
    yield "nv_inference_exec_count", sum(runs.count for runs in counted.batches.values())
    durations = {
        "request": counted.success,
        "queue": counted.queue,
        "compute_input": counted.input,
        "compute_infer": counted.infer,
        "compute_output": counted.output,
    }
    for name, duration in durations.items():
        yield f"nv_inference_{name}_duration_us", duration.ns // 1000


def _failures(families: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], int]:
    """Return failed requests by model, version and reason."""
    failures: dict[tuple[str, str, str], int] = {}
    for family in families:
        if family["name"] != _REQUESTS:
            continue
        for _, labels, value in family["samples"]:
            if labels["outcome"] != "success":
                reason = _REASONS.get(labels["outcome"], "OTHER")
                key = (labels["model_name"], labels["model_version"], reason)
                failures[key] = failures.get(key, 0) + int(value)
    return failures


def _escaped(text: str) -> str:
    """Return a label's value as the text format has it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
