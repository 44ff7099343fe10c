"""All instruments, their labels and their buckets; the only importer of prometheus_client."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.observer import BatchReport

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STAGES = ("queue", "preprocess", "infer", "postprocess", "total")
STATES = ("PENDING", "LOADING", "VERIFYING", "READY", "DRAINING", "FAILED", "UNLOADED")
_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_MODEL = ("model_name", "model_version")


class Metrics:
    """The instruments of one process; a `service.observer.Observer` for the runtime.

    Labels come only from models that were found on disk and from closed lists in the code, never
    from a request.
    """

    def __init__(self, version: str) -> None:
        """Make a registry of its own, so that two applications can live in one process."""
        # Dashboards do not use the `_created` series, and they double the page.
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library lacks annotations
        self.registry = registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        build = Info("onnxport_build", "What is running.", registry=registry)
        build.info({"version": version, "python": platform.python_version()})
        self._make_model_instruments()
        self._make_server_instruments()

    def _make_model_instruments(self) -> None:
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._requests = counter(
            "onnxport_requests_total",
            "Requests to a known model, by outcome.",
            (*_MODEL, "outcome"),
        )
        self._rows = counter("onnxport_rows_total", "Rows answered.", _MODEL)
        self._seconds = histogram(
            "onnxport_request_seconds",
            "Seconds a successful request spent in each stage.",
            (*_MODEL, "stage"),
            buckets=_SECONDS,
        )
        self._batch_rows = histogram(
            "onnxport_batch_rows", "Rows of one run.", _MODEL, buckets=_ROWS
        )
        self._batch_seconds = histogram(
            "onnxport_batch_seconds", "Seconds of one run.", _MODEL, buckets=_SECONDS
        )
        self._queue_rows = gauge("onnxport_queue_rows", "Rows that wait for a model.", _MODEL)
        self._state = gauge(
            "onnxport_model_state",
            "1 for the state that a model is in, 0 for the others.",
            (*_MODEL, "state"),
        )

    def _make_server_instruments(self) -> None:
        counter = partial(Counter, registry=self.registry)
        self._refused = counter(
            "onnxport_refused_total",
            "Requests refused before a model was known, by reason.",
            ("reason",),
        )
        self._http = counter(
            "onnxport_http_requests_total", "HTTP requests by road and status.", ("road", "status")
        )
        self._active = Gauge(
            "onnxport_http_active_requests", "Requests being answered.", registry=self.registry
        )

    def model_state(self, model: str, version: int, state: str) -> None:
        """Show the state, and let the model's rates begin at zero; unloaded ones leave the page."""
        if state == "UNLOADED":
            self._forget(model, version)
            return
        for known in STATES:
            self._state.labels(model, version, known).set(known == state)
        self._requests.labels(model, version, "success")
        self._rows.labels(model, version)
        self._queue_rows.labels(model, version)
        self._batch_rows.labels(model, version)
        self._batch_seconds.labels(model, version)

    def _forget(self, model: str, version: int) -> None:
        # A trainer that publishes every hour must not grow the page for ever.
        for instrument in (
            self._state,
            self._requests,
            self._rows,
            self._seconds,
            self._queue_rows,
            self._batch_rows,
            self._batch_seconds,
        ):
            instrument.remove_by_labels({"model_name": model, "model_version": str(version)})

    def request(
        self,
        model: str,
        version: int,
        *,
        outcome: str,
        rows: int,
        seconds: Mapping[str, float],
    ) -> None:
        """Count one request; only successful ones enter the durations, errors are too quick."""
        self._requests.labels(model, version, outcome).inc()
        if outcome != "success":
            return
        self._rows.labels(model, version).inc(rows)
        for stage in STAGES:
            if stage in seconds:
                self._seconds.labels(model, version, stage).observe(seconds[stage])

    def refused(self, code: str) -> None:
        """Count a request that was refused before its model was known."""
        self._refused.labels(code).inc()

    def batch(self, report: BatchReport) -> None:
        """Count one run of a model."""
        self._batch_rows.labels(report.model, report.version).observe(report.rows)
        self._batch_seconds.labels(report.model, report.version).observe(report.seconds)

    def queue(self, model: str, version: int, rows: int) -> None:
        """Show how many rows wait."""
        self._queue_rows.labels(model, version).set(rows)

    def started(self) -> None:
        """Note that an HTTP request has begun."""
        self._active.inc()

    def ended(self, road: str, status: int) -> None:
        """Count an HTTP request; ``road`` is a path template of ours, never a path."""
        self._active.dec()
        self._http.labels(road, status).inc()

    def render(self) -> bytes:
        """Return all families in text format 0.0.4."""
        return generate_latest(self.registry)

    def snapshot(self) -> list[dict[str, Any]]:
        """Return all families as plain values, as `service.snapshots` describes them."""
        return [
            {
                "name": family.name,
                "type": family.type,
                "help": family.documentation,
                "samples": [[s.name, dict(s.labels), s.value] for s in family.samples],
            }
            for family in self.registry.collect()
        ]

    def render_all(
        self, families: Sequence[Mapping[str, Any]], *, workers: int, restarts: int
    ) -> bytes:
        """Return families that several processes have counted, and how the workers fare."""
        page = CollectorRegistry(auto_describe=False)
        page.register(_Page(families, workers=workers, restarts=restarts))
        return generate_latest(page)


class _Page(Collector):
    """Families of plain values, as a collector that is asked once."""

    def __init__(
        self, families: Sequence[Mapping[str, Any]], *, workers: int, restarts: int
    ) -> None:
        self._families = families
        self._workers = workers
        self._restarts = restarts

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family["name"], family["help"], family["type"])
            for name, labels, value in family["samples"]:
                metric.add_sample(name, labels, value)
            yield metric
        yield GaugeMetricFamily(
            "onnxport_workers", "Workers that take connections.", value=self._workers
        )
        yield CounterMetricFamily(
            "onnxport_worker_restarts",
            "Workers that were started again after their process had ended.",
            value=self._restarts,
        )
