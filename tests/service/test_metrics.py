"""The instruments and the page that shows them."""

from __future__ import annotations

from service.metrics import STATES, Metrics
from service.nvml import Device
from service.observer import BatchReport, LoadReport, NullObserver, Observer, Observers
from service.registry import State

MODEL = 'model_name="m",model_version="2"'
SECONDS = {"queue": 0.002, "infer": 0.01, "total": 0.02}


def page_after(*, requests: int = 0) -> str:
    """Return the page after a model became ready and answered some requests of 3 rows."""
    metrics = Metrics("1.2.3")
    metrics.model_state("m", 2, "LOADING")
    metrics.model_state("m", 2, "READY")
    for _ in range(requests):
        metrics.request("m", 2, outcome="success", rows=3, seconds=SECONDS)
    return metrics.render().decode()


def test_metrics_are_an_observer() -> None:
    """The runtime takes them, and their silent twin, where it wants an observer."""
    observers: list[Observer] = [Metrics("0"), NullObserver(), Observers(NullObserver())]
    for observer in observers:
        observer.model_state("m", 1, "READY")
        observer.request("m", 1, outcome="success", rows=1, seconds=SECONDS)
        observer.refused("too_large")
        observer.batch(BatchReport("m", 1, 1, 1, 0.1))
        observer.queue("m", 1, 0)
        observer.loaded(LoadReport("m", 1, 1.0, "cpu", None))


def test_several_observers_hear_everything() -> None:
    """Each is told of every event."""
    one, other = Metrics("0"), Metrics("0")
    both = Observers(one, other)
    both.model_state("m", 2, "READY")
    both.request("m", 2, outcome="success", rows=3, seconds=SECONDS)
    both.refused("too_large")
    both.batch(BatchReport("m", 2, jobs=1, rows=3, seconds=0.1))
    both.queue("m", 2, 5)
    for metrics in (one, other):
        page = metrics.render().decode()
        assert f'onnxport_model_state{{{MODEL},state="READY"}} 1.0' in page
        assert f"onnxport_rows_total{{{MODEL}}} 3.0" in page
        assert 'onnxport_refused_total{reason="too_large"} 1.0' in page
        assert f"onnxport_batch_rows_count{{{MODEL}}} 1.0" in page
        assert f"onnxport_queue_rows{{{MODEL}}} 5.0" in page


def test_a_model_is_in_one_state() -> None:
    """The state it is in shows 1, every other one 0."""
    page = page_after()
    assert f'onnxport_model_state{{{MODEL},state="READY"}} 1.0' in page
    assert f'onnxport_model_state{{{MODEL},state="LOADING"}} 0.0' in page


def test_a_model_that_is_unloaded_leaves_the_page() -> None:
    """Versions come and go for as long as a server runs; the page must not grow with them."""
    metrics = Metrics("0")
    for version in (1, 2):
        metrics.model_state("m", version, "READY")
        metrics.request("m", version, outcome="success", rows=1, seconds=SECONDS)
        metrics.batch(BatchReport("m", version, jobs=1, rows=1, seconds=0.1))
        metrics.queue("m", version, 3)
    metrics.model_state("m", 1, "UNLOADED")
    page = metrics.render().decode()
    assert 'model_version="1"' not in page
    assert 'model_version="2"' in page


def test_every_state_of_the_registry_is_shown() -> None:
    """A state that is added to the registry must be added here."""
    assert set(STATES) == {str(state) for state in State}


def test_rates_begin_at_zero() -> None:
    """A model that has answered nothing yet is on the page, so that a rate can be taken."""
    page = page_after()
    assert f'onnxport_requests_total{{{MODEL},outcome="success"}} 0.0' in page
    assert f'onnxport_requests_total{{{MODEL},outcome="overloaded"}} 0.0' in page
    assert 'onnxport_refused_total{reason="model_not_found"} 0.0' in page
    assert f"onnxport_rows_total{{{MODEL}}} 0.0" in page
    assert f"onnxport_batch_rows_count{{{MODEL}}} 0.0" in page


def test_requests_rows_and_seconds_are_counted() -> None:
    """Each successful request adds its rows, and its seconds by stage."""
    page = page_after(requests=2)
    assert f'onnxport_requests_total{{{MODEL},outcome="success"}} 2.0' in page
    assert f"onnxport_rows_total{{{MODEL}}} 6.0" in page
    assert f'onnxport_request_seconds_bucket{{le="0.0025",{MODEL},stage="queue"}} 2.0' in page
    assert f'onnxport_request_seconds_sum{{{MODEL},stage="infer"}} 0.02' in page
    assert 'stage="preprocess"' not in page


def test_errors_do_not_embellish_the_durations() -> None:
    """A refusal is quick; it is counted, but not as a duration."""
    metrics = Metrics("0")
    metrics.request("m", 2, outcome="invalid_request", rows=0, seconds={"total": 0.1})
    page = metrics.render().decode()
    assert f'onnxport_requests_total{{{MODEL},outcome="invalid_request"}} 1.0' in page
    assert "onnxport_request_seconds_count" not in page


def test_batches_and_queues() -> None:
    """A run's rows and seconds, and the rows that wait now."""
    metrics = Metrics("0")
    metrics.batch(BatchReport("m", 2, jobs=3, rows=8, seconds=0.2))
    metrics.queue("m", 2, 5)
    metrics.queue("m", 2, 4)
    page = metrics.render().decode()
    assert f'onnxport_batch_rows_bucket{{le="8.0",{MODEL}}} 1.0' in page
    assert f'onnxport_batch_rows_bucket{{le="4.0",{MODEL}}} 0.0' in page
    assert f"onnxport_batch_seconds_sum{{{MODEL}}} 0.2" in page
    assert f"onnxport_queue_rows{{{MODEL}}} 4.0" in page


def test_http_requests_and_refusals() -> None:
    """Requests by road and status, those being answered, and refusals by reason."""
    metrics = Metrics("0")
    metrics.started()
    metrics.started()
    metrics.ended("/v2", 200)
    metrics.refused("too_large")
    page = metrics.render().decode()
    assert 'onnxport_http_requests_total{road="/v2",status="200"} 1.0' in page
    assert "onnxport_http_active_requests 1.0" in page
    assert 'onnxport_refused_total{reason="too_large"} 1.0' in page


def test_build_and_process_figures() -> None:
    """What runs, and what it costs, without the `_created` series."""
    page = page_after(requests=1)
    assert 'version="1.2.3"' in page
    assert "process_resident_memory_bytes" in page
    assert "_created" not in page


def test_two_servers_in_one_process_do_not_share() -> None:
    """Instruments belong to an application, not to the process."""
    one, other = Metrics("0"), Metrics("0")
    one.refused("too_large")
    assert 'onnxport_refused_total{reason="too_large"} 1.0' in one.render().decode()
    assert 'onnxport_refused_total{reason="too_large"} 0.0' in other.render().decode()


def test_what_a_load_was_like() -> None:
    """Its seconds, its provider, and how far the proof was off, if there was one."""
    metrics = Metrics("0", onnxruntime="1.2")
    metrics.loaded(LoadReport("m", 2, 1.5, "cuda", 1e-4))
    metrics.loaded(LoadReport("bare", 1, 0.5, "cpu", None))
    page = metrics.render().decode()
    assert f'onnxport_model_info{{{MODEL},provider="cuda"}} 1.0' in page
    assert f"onnxport_model_load_seconds{{{MODEL}}} 1.5" in page
    assert f"onnxport_verification_max_error{{{MODEL}}} 0.0001" in page
    assert page.count("onnxport_verification_max_error{") == 1
    assert 'onnxruntime="1.2"' in page


def test_names_that_kserve_dashboards_ask_for() -> None:
    """The whole of a request is its predict; V2 has no other stage."""
    page = page_after(requests=2)
    assert f"request_predict_seconds_count{{{MODEL}}} 2.0" in page
    assert f"request_predict_seconds_sum{{{MODEL}}} 0.04" in page
    assert "request_preprocess_seconds_count" not in page


def test_where_a_model_runs() -> None:
    """Nodes are shown by provider, and whether the wish for one was met."""
    metrics = Metrics("1")
    metrics.model_state("m", 1, "READY")
    metrics.placement("m", 1, nodes={"cpu": 2, "cuda": 7}, fell_back=True)
    page = metrics.render().decode()
    labels = 'model_name="m",model_version="1"'
    assert f'onnxport_model_nodes{{{labels},provider="cuda"}} 7.0' in page
    assert f'onnxport_model_nodes{{{labels},provider="cpu"}} 2.0' in page
    assert f"onnxport_model_fallback{{{labels}}} 1.0" in page
    metrics.model_state("m", 1, "UNLOADED")
    assert "onnxport_model_nodes{" not in metrics.render().decode()


def test_the_memory_of_devices() -> None:
    """It is asked for whenever the page is."""
    found = [Device(0, "H200", "580.1", used=5, total=9)]
    metrics = Metrics("1", lambda: tuple(found))
    assert 'onnxport_device_memory_used_bytes{device="0"} 5.0' in metrics.render().decode()
    found[0] = Device(0, "H200", "580.1", used=6, total=9)
    page = metrics.render().decode()
    assert 'onnxport_device_memory_used_bytes{device="0"} 6.0' in page
    assert 'onnxport_device_memory_bytes{device="0"} 9.0' in page
