"""Counters of the statistics extension, fed by the runtime's reports."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.observer import BatchReport, Observer
from service.statistics import Duration, Statistics, counted_size

V1_SECONDS = {
    "preprocess": 0.001,
    "queue": 0.002,
    "infer": 0.003,
    "postprocess": 0.0005,
    "total": 0.007,
}
V2_SECONDS = {"queue": 0.002, "infer": 0.003, "total": 0.006}
NOTHING = {"count": 0, "ns": 0}


def counted(*seconds: dict[str, float], rows: int = 2) -> dict[str, object]:
    """Return the counters after one successful request for each of the durations."""
    statistics = Statistics(clock=lambda: 1_700_000_000.25)
    for one in seconds:
        statistics.request("m", 3, outcome="success", rows=rows, seconds=one)
    return statistics.of("m", 3).as_json()


def test_they_are_an_observer() -> None:
    """The runtime takes them where it wants one; what is no counter passes by."""
    observer: Observer = Statistics()
    observer.queue("m", 1, 5)
    observer.refused("too_large")


def test_a_version_begins_at_zero() -> None:
    """All members are there before the first request, so that a reader can take differences."""
    statistics = Statistics()
    statistics.model_state("m", 3, "LOADING")
    stages = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    assert statistics.of("m", 3).as_json() == {
        "last_inference": 0,
        "inference_count": 0,
        "execution_count": 0,
        "inference_stats": dict.fromkeys((*stages, "cache_hit", "cache_miss"), NOTHING),
        "response_stats": {},
        "batch_stats": [],
        "memory_usage": [],
    }


def test_requests_rows_and_stages() -> None:
    """Rows add up in inference_count, requests in success; times are whole nanoseconds."""
    found = counted(V1_SECONDS, V1_SECONDS)
    assert found["inference_count"] == 4
    assert found["last_inference"] == 1_700_000_000_250
    assert found["inference_stats"] == {
        "success": {"count": 2, "ns": 14_000_000},
        "fail": NOTHING,
        "queue": {"count": 2, "ns": 4_000_000},
        "compute_input": {"count": 2, "ns": 2_000_000},
        "compute_infer": {"count": 2, "ns": 6_000_000},
        "compute_output": {"count": 2, "ns": 1_000_000},
        "cache_hit": NOTHING,
        "cache_miss": NOTHING,
    }


def test_stages_that_a_request_does_not_have_take_no_time() -> None:
    """V2 speaks tensors: it is counted in every stage, so that averages share one divisor."""
    stats = counted(V1_SECONDS, V2_SECONDS)["inference_stats"]
    assert isinstance(stats, dict)
    assert stats["compute_input"] == {"count": 2, "ns": 1_000_000}
    assert stats["compute_output"] == {"count": 2, "ns": 500_000}


def test_failures_are_counted_apart() -> None:
    """Whatever the reason, they add neither rows nor stages."""
    statistics = Statistics()
    for outcome in ("invalid_request", "cancelled"):
        statistics.request("m", 3, outcome=outcome, rows=2, seconds={"total": 0.5, "queue": 0.5})
    found = statistics.of("m", 3)
    assert found.fail == Duration(2, 1_000_000_000)
    assert (found.rows, found.last_inference) == (0, 0)
    assert found.success == found.queue == Duration()


def test_runs_by_their_size() -> None:
    """execution_count counts runs, batch_stats their time by the rows that shared them."""
    statistics = Statistics()
    for rows, seconds in ((4, 0.001), (1, 0.002), (4, 0.003)):
        statistics.batch(BatchReport("m", 3, jobs=1, rows=rows, seconds=seconds))
    found = statistics.of("m", 3).as_json()
    assert found["execution_count"] == 3
    assert found["batch_stats"] == [
        {
            "batch_size": 1,
            "compute_input": {"count": 1, "ns": 0},
            "compute_infer": {"count": 1, "ns": 2_000_000},
            "compute_output": {"count": 1, "ns": 0},
        },
        {
            "batch_size": 4,
            "compute_input": {"count": 2, "ns": 0},
            "compute_infer": {"count": 2, "ns": 4_000_000},
            "compute_output": {"count": 2, "ns": 0},
        },
    ]


@pytest.mark.parametrize(
    ("rows", "size"), [(0, 0), (1, 1), (127, 127), (128, 128), (129, 256), (256, 256), (257, 512)]
)
def test_large_sizes_share_counters(rows: int, size: int) -> None:
    """Sizes come from callers, so their number is bounded."""
    assert counted_size(rows) == size


@settings(deadline=None, max_examples=60)
@given(st.integers(129, 2**40))
def test_a_shared_size_is_the_next_power_of_two(rows: int) -> None:
    """It is at least the rows and less than twice as many."""
    assert rows <= counted_size(rows) < 2 * rows
    assert counted_size(rows).bit_count() == 1


def test_versions_are_counted_apart() -> None:
    """One is unloaded and begins anew, the other keeps what it has."""
    statistics = Statistics()
    for version in (1, 2):
        statistics.request("m", version, outcome="success", rows=1, seconds=V2_SECONDS)
    statistics.model_state("m", 1, "READY")
    assert statistics.of("m", 1).rows == 1
    statistics.model_state("m", 1, "UNLOADED")
    assert (statistics.of("m", 1).rows, statistics.of("m", 2).rows) == (0, 1)
