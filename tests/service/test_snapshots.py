"""Figures of several workers as one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.metrics import STATES, Metrics
from service.nvml import Device
from service.observer import BatchReport, LoadReport, Observers
from service.snapshots import Snapshot, bury, merge, nothing, prune
from service.statistics import History, Statistics

SECONDS = {"queue": 0.002, "infer": 0.01, "total": 0.02}
MODEL = 'model_name="m",model_version="2"'


def snapshot(
    *, requests: int = 0, state: str = "READY", waiting: int = 0, now: float = 1.0
) -> Snapshot:
    """Return what a worker tells whose model is in a state and has answered some requests."""
    metrics, statistics = Metrics("1.2.3"), Statistics(clock=lambda: now)
    both = Observers(metrics, statistics)
    both.model_state("m", 2, state)
    for _ in range(requests):
        both.request("m", 2, outcome="success", rows=3, seconds=SECONDS)
        both.batch(BatchReport("m", 2, jobs=1, rows=3, seconds=0.1))
    both.queue("m", 2, waiting)
    return {"families": metrics.snapshot(), "statistics": statistics.snapshot()}


def page(merged: Snapshot) -> str:
    """Return the page of merged figures."""
    families = merged["families"]
    return Metrics("1.2.3").render_all(families, workers=2, restarts=7).decode()


def test_the_page_of_one_is_its_own_page() -> None:
    """Apart from what the supervisor adds of workers and repository nothing is added or lost."""
    metrics = Metrics("1.2.3")
    metrics.model_state("m", 2, "READY")
    metrics.request("m", 2, outcome="success", rows=3, seconds=SECONDS)
    merged = merge({1: {"families": metrics.snapshot(), "statistics": []}}, nothing())
    rendered = metrics.render_all(merged["families"], workers=1, restarts=0).decode()

    def ours(text: str) -> list[str]:
        other = ("process_", "python_", "onnxport_worker", "onnxport_repository_ok")
        return [
            line
            for line in text.splitlines()
            if not line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(other)
        ]

    assert ours(rendered) == ours(metrics.render().decode())


def test_counters_and_histograms_are_added() -> None:
    """Over the living and the dead; gauges only over the living."""
    past = bury(nothing(), snapshot(requests=4, waiting=9))
    merged = merge({1: snapshot(requests=1, waiting=2), 2: snapshot(requests=2, waiting=3)}, past)
    text = page(merged)
    assert f'onnxport_requests_total{{{MODEL},outcome="success"}} 7.0' in text
    assert f"onnxport_rows_total{{{MODEL}}} 21.0" in text
    assert f'onnxport_batch_rows_bucket{{le="4.0",{MODEL}}} 7.0' in text
    assert f"onnxport_queue_rows{{{MODEL}}} 5.0" in text
    assert "onnxport_workers 2.0" in text
    assert "onnxport_repository_ok 1.0" in text
    assert "onnxport_worker_restarts_total 7.0" in text
    assert text.count("onnxport_build_info{") == 1
    statistics = History(merged["statistics"]).of("m", 2)
    assert (statistics.rows, statistics.success.count, statistics.batches[3].count) == (21, 7, 7)


def test_processes_are_told_apart() -> None:
    """Memory and time are those of a worker; the dead use none."""
    past = bury(nothing(), snapshot())
    text = page(merge({1: snapshot(), 2: snapshot()}, past))
    lines = [line for line in text.splitlines() if line.startswith("process_resident_memory")]
    assert [line.split(" ")[0] for line in lines] == [
        'process_resident_memory_bytes{worker="1"}',
        'process_resident_memory_bytes{worker="2"}',
    ]


def test_a_version_is_in_its_worst_state() -> None:
    """One state shows 1 and every other 0, whatever the workers say."""
    text = page(merge({1: snapshot(), 2: snapshot(state="LOADING")}, nothing()))
    for state in STATES:
        shown = float(state == "LOADING")
        assert f'onnxport_model_state{{{MODEL},state="{state}"}} {shown}' in text


def test_a_load_is_as_slow_as_the_slowest() -> None:
    """And the proof as far off as the farthest; a sum of them would mean nothing."""

    def loaded(seconds: float, error: float) -> Snapshot:
        metrics = Metrics("1.2.3")
        metrics.loaded(LoadReport("m", 2, seconds, "cpu", error))
        return {"families": metrics.snapshot(), "statistics": []}

    text = page(merge({1: loaded(1.0, 0.25), 2: loaded(2.0, 0.125)}, nothing()))
    assert f"onnxport_model_load_seconds{{{MODEL}}} 2.0" in text
    assert f"onnxport_verification_max_error{{{MODEL}}} 0.25" in text
    assert f'onnxport_model_info{{{MODEL},provider="cpu"}} 1.0' in text


def test_the_latest_inference_is_the_latest() -> None:
    """It is a time, not a count."""
    merged = merge({1: snapshot(requests=1, now=5), 2: snapshot(requests=1, now=3)}, nothing())
    assert History(merged["statistics"]).of("m", 2).last_inference == 5000


def test_what_nobody_knows_any_more_leaves_the_past() -> None:
    """A version that was unloaded does not come back with a dead worker's counts."""
    past = bury(nothing(), snapshot(requests=4))
    assert merge({}, prune(past, {("m", 2)})) == merge({}, past)
    gone = prune(past, {("m", 3)})
    assert MODEL not in page(merge({}, gone))
    assert gone["statistics"] == []


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_the_order_of_deaths_does_not_matter(requests: list[int]) -> None:
    """What was counted is counted, by the living or by the dead."""

    def total(merged: Snapshot) -> Any:
        return History(merged["statistics"]).of("m", 2).success.count

    past = nothing()
    for number, count in enumerate(requests):
        living = {n: snapshot(requests=c) for n, c in enumerate(requests) if n >= number}
        assert total(merge(living, past)) == sum(requests)
        past = bury(past, snapshot(requests=count))
    assert total(merge({}, past)) == sum(requests)


def test_what_all_workers_say_of_one_thing_is_said_once() -> None:
    """A graph has its nodes in every worker, and there is one device."""
    metrics = Metrics("1", lambda: (Device(0, "H200", "580", used=5, total=9),))
    metrics.model_state("m", 2, "READY")
    metrics.placement("m", 2, nodes={"cuda": 7}, fell_back=False)
    one: Snapshot = {"families": metrics.snapshot(), "statistics": []}
    two: Snapshot = {"families": metrics.snapshot(), "statistics": []}
    text = page(merge({1: one, 2: two}, nothing()))
    assert f'onnxport_model_nodes{{{MODEL},provider="cuda"}} 7.0' in text
    assert 'onnxport_device_memory_used_bytes{device="0"} 5.0' in text
