"""Triton's names for what is counted anyway."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics
from service.observer import BatchReport, Observers
from service.snapshots import bury, merge, nothing
from service.statistics import Statistics
from service.tritonpage import triton_page

SECONDS = {"queue": 0.002, "preprocess": 0.001, "infer": 0.01, "postprocess": 0.003, "total": 0.02}


def snapshot(model: str = "m", *, failed: tuple[str, ...] = ()) -> dict[str, object]:
    """Return what a worker tells that has answered two requests in one run, and failed some."""
    metrics, statistics = Metrics("0"), Statistics(clock=lambda: 1.0)
    both = Observers(metrics, statistics)
    both.model_state(model, 2, "READY")
    for _ in range(2):
        both.request(model, 2, outcome="success", rows=3, seconds=SECONDS)
    both.batch(BatchReport(model, 2, jobs=2, rows=6, seconds=0.1))
    for outcome in failed:
        both.request(model, 2, outcome=outcome, rows=3, seconds={"total": 1.0})
    return {"families": metrics.snapshot(), "statistics": statistics.snapshot()}


def values(merged: dict[str, object]) -> dict[str, float]:
    """Return the page's samples by name and reason; Python's parser adds a suffix to counters."""
    page = triton_page(merged["statistics"], merged["families"]).decode()  # type: ignore[arg-type] # plain values
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            assert (sample.labels["model"], sample.labels["version"]) == ("m", "2")
            found[sample.name.removesuffix("_total") + sample.labels.get("reason", "")] = (
                sample.value
            )
    return found


def test_successes_rows_runs_and_microseconds() -> None:
    """Counters of requests, rows and runs, and the time of each stage."""
    found = values(snapshot())
    assert found["nv_inference_request_success"] == 2
    assert found["nv_inference_count"] == 6
    assert found["nv_inference_exec_count"] == 1
    assert found["nv_inference_request_duration_us"] == 40_000
    assert found["nv_inference_queue_duration_us"] == 4_000
    assert found["nv_inference_compute_input_duration_us"] == 2_000
    assert found["nv_inference_compute_infer_duration_us"] == 20_000
    assert found["nv_inference_compute_output_duration_us"] == 6_000


def test_failures_have_one_of_four_reasons() -> None:
    """All four are there from the start; what Triton has no word for is OTHER."""
    name = "nv_inference_request_failure"
    reasons = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    assert [values(snapshot())[name + reason] for reason in reasons] == [0, 0, 0, 0]
    failed = ("overloaded", "deadline_exceeded", "cancelled", "engine_failure", "invalid_request")
    found = values(snapshot(failed=failed))
    assert [found[name + reason] for reason in reasons] == [2, 1, 1, 1]
    assert found["nv_inference_request_duration_us"] == 40_000


def test_several_workers_and_a_dead_one_are_added() -> None:
    """What a worker had counted when it died stays counted."""
    both = values(merge({1: snapshot(), 2: snapshot()}, nothing()))
    after = values(merge({1: snapshot()}, bury(nothing(), snapshot())))
    assert both == after
    assert both["nv_inference_request_success"] == 4


def test_nothing_is_an_answer() -> None:
    """Before any model is known the page has its families and no samples."""
    page = triton_page([], []).decode()
    assert "# TYPE nv_inference_request_success counter\n" in page
    assert [line for line in page.splitlines() if not line.startswith("#")] == []


def test_a_hostile_name_breaks_no_line() -> None:
    """A folder may be called anything."""
    told = snapshot('a"} 1\nb\\')
    page = triton_page(told["statistics"], told["families"]).decode()  # type: ignore[arg-type] # plain values
    (family, *_) = text_string_to_metric_families(page)
    assert family.samples[0].labels["model"] == 'a"} 1\nb\\'
