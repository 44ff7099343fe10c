"""All instruments, their labels and their buckets; the only importer of prometheus_client."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.nvml import Device
from service.observer import BatchReport, LoadReport
from service.tallies import Distribution, Tallies
from service.tracing import RunTrace

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("PENDING", "LOADING", "VERIFYING", "WARMING", "READY", "DRAINING", "FAILED", "UNLOADED")
_MODEL = ("model_name", "model_version")
# Its predict is the whole of a request, with the time in the queue.
_KSERVE = {"preprocess": "preprocess", "total": "predict", "postprocess": "postprocess"}


class Metrics:
    """The instruments of one process; a `service.observer.Observer` for the runtime.

    Labels come only from models that were found on disk and from closed lists in the code, never
    from a request.  All but `render` is called on the event loop and costs about a microsecond.
    """

    def __init__(
        self,
        version: str,
        devices: Callable[[], Sequence[Device]] = tuple,
        *,
        onnxruntime: str = "",
    ) -> None:
        """Make a registry of its own, so that two applications can live in one process.

        ``devices`` is asked whenever the figures are wanted.
        """
        self._tallies = Tallies()
        self.registry = registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        build = Info("onnxport_build", "What is running.", registry=registry)
        versions = {"version": version, "python": platform.python_version()}
        build.info({**versions, "onnxruntime": onnxruntime})
        registry.register(_Families(self._tallies, devices))

    def model_state(self, model: str, version: int, state: str) -> None:
        """Show the state, and let the model's rates begin at zero; unloaded ones leave the page."""
        if state == "UNLOADED":
            # A trainer that publishes every hour must not grow the page for ever.
            self._tallies.models.pop((model, version), None)
        else:
            self._tallies.of(model, version).state = state

    def loaded(self, report: LoadReport) -> None:
        """Show what a load was like."""
        self._tallies.of(report.model, report.version).load = report

    def request(
        self,
        model: str,
        version: int,
        *,
        outcome: str,
        rows: int,
        seconds: Mapping[str, float],
    ) -> None:
        """Count one request by its outcome, and a successful one by its seconds a stage."""
        self._tallies.of(model, version).request(outcome, rows, seconds)

    def refused(self, code: str) -> None:
        """Count a request that was refused before its model was known."""
        refused = self._tallies.refused
        refused[code] = refused.get(code, 0) + 1

    def batch(self, report: BatchReport) -> None:
        """Count one run of a model."""
        self._tallies.of(report.model, report.version).batch(report.rows, report.seconds)

    def traced(self, run: RunTrace) -> None:
        """Ignore the event."""

    def queue(self, model: str, version: int, rows: int) -> None:
        """Show how many rows wait."""
        self._tallies.of(model, version).queue_rows = rows

    def stuck(self, model: str, version: int, seconds: float) -> None:
        """Ignore what the log tells."""

    def placement(
        self, model: str, version: int, *, nodes: Mapping[str, int], fell_back: bool
    ) -> None:
        """Show how many nodes each provider runs, and whether the CPU or another stands in."""
        tally = self._tallies.of(model, version)
        tally.nodes, tally.fell_back = dict(nodes), fell_back

    def started(self) -> None:
        """Note that an HTTP request has begun."""
        self._tallies.active += 1

    def ended(self, road: str, status: int) -> None:
        """Count an HTTP request; ``road`` is a path template of ours, never a path."""
        self._tallies.active -= 1
        http, key = self._tallies.http, (road, status)
        http[key] = http.get(key, 0) + 1

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
        self,
        families: Sequence[Mapping[str, Any]],
        *,
        workers: int,
        restarts: int,
        repository_ok: bool = True,
    ) -> bytes:
        """Return families that several processes have counted, and how the workers fare."""
        page = CollectorRegistry(auto_describe=False)
        page.register(
            _Page(families, workers=workers, restarts=restarts, repository_ok=repository_ok)
        )
        return generate_latest(page)


class _Families(Collector):
    """Shows the tallies as families of metrics whenever they are asked for."""

    def __init__(self, tallies: Tallies, devices: Callable[[], Sequence[Device]]) -> None:
        self._tallies = tallies
        self._devices = devices

    def collect(self) -> Iterator[Metric]:
        """Yield every family, those without a sample included."""
        yield from self._model_counters()
        yield from self._model_distributions()
        yield from self._model_gauges()
        yield from self._server()
        yield from self._device_memory()

    def _model_counters(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "onnxport_requests",
            "Requests to a known model, by outcome.",
            labels=(*_MODEL, "outcome"),
        )
        rows = CounterMetricFamily("onnxport_rows", "Rows answered.", labels=_MODEL)
        for labels, tally in self._tallies.labelled():
            for outcome, count in tally.requests.items():
                requests.add_metric([*labels, outcome], count)
            rows.add_metric(labels, tally.rows)
        yield from (requests, rows)

    def _model_distributions(self) -> Iterator[Metric]:
        seconds = HistogramMetricFamily(
            "onnxport_request_seconds",
            "Seconds a successful request spent in each stage.",
            labels=(*_MODEL, "stage"),
        )
        batch_rows = HistogramMetricFamily("onnxport_batch_rows", "Rows of one run.", labels=_MODEL)
        batch_seconds = HistogramMetricFamily(
            "onnxport_batch_seconds", "Seconds of one run.", labels=_MODEL
        )
        for labels, tally in self._tallies.labelled():
            for stage, spent in tally.stages.items():
                _add(seconds, [*labels, stage], spent)
            _add(batch_rows, labels, tally.batch_rows)
            _add(batch_seconds, labels, tally.batch_seconds)
        yield from (seconds, batch_rows, batch_seconds)
        yield from self._kserve_distributions()

    def _kserve_distributions(self) -> Iterator[Metric]:
        """Yield the histograms that KServe's dashboards ask for, of the same numbers."""
        for stage, name in _KSERVE.items():
            family = HistogramMetricFamily(
                f"request_{name}_seconds", f"Seconds of {name}, as KServe counts.", labels=_MODEL
            )
            for labels, tally in self._tallies.labelled():
                if stage in tally.stages:
                    _add(family, labels, tally.stages[stage])
            yield family

    def _model_gauges(self) -> Iterator[Metric]:
        queue = GaugeMetricFamily(
            "onnxport_queue_rows", "Rows that wait for a model.", labels=_MODEL
        )
        state = GaugeMetricFamily(
            "onnxport_model_state",
            "1 for the state that a model is in, 0 for the others.",
            labels=(*_MODEL, "state"),
        )
        for labels, tally in self._tallies.labelled():
            queue.add_metric(labels, tally.queue_rows)
            for known in STATES if tally.state else ():
                state.add_metric([*labels, known], known == tally.state)
        yield from (queue, state, *self._placements())
        yield from self._loads()

    def _loads(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "onnxport_model_info", "Where a model runs.", labels=(*_MODEL, "provider")
        )
        seconds = GaugeMetricFamily(
            "onnxport_model_load_seconds", "Seconds that a model's load took.", labels=_MODEL
        )
        error = GaugeMetricFamily(
            "onnxport_verification_max_error",
            "The largest difference from a recorded answer when the model proved itself.",
            labels=_MODEL,
        )
        for labels, tally in self._tallies.labelled():
            if tally.load is not None:
                info.add_metric([*labels, tally.load.provider], 1)
                seconds.add_metric(labels, tally.load.seconds)
                if tally.load.max_error is not None:
                    error.add_metric(labels, tally.load.max_error)
        yield from (info, seconds, error)

    def _placements(self) -> Iterator[Metric]:
        nodes = GaugeMetricFamily(
            "onnxport_model_nodes",
            "Nodes of a model's graph that a provider runs.",
            labels=(*_MODEL, "provider"),
        )
        fallback = GaugeMetricFamily(
            "onnxport_model_fallback",
            "1 if another provider does the work than the first that was asked for.",
            labels=_MODEL,
        )
        for labels, tally in self._tallies.labelled():
            for provider, count in tally.nodes.items():
                nodes.add_metric([*labels, provider], count)
            if tally.state == "READY":
                fallback.add_metric(labels, tally.fell_back)
        yield from (nodes, fallback)

    def _device_memory(self) -> Iterator[Metric]:
        used = GaugeMetricFamily(
            "onnxport_device_memory_used_bytes",
            "Memory of a GPU that anybody uses.",
            labels=("device",),
        )
        total = GaugeMetricFamily(
            "onnxport_device_memory_bytes", "Memory of a GPU.", labels=("device",)
        )
        for device in self._devices():
            used.add_metric([str(device.index)], device.used)
            total.add_metric([str(device.index)], device.total)
        yield from (used, total)

    def _server(self) -> Iterator[Metric]:
        refused = CounterMetricFamily(
            "onnxport_refused",
            "Requests refused before a model was known, by reason.",
            labels=("reason",),
        )
        for reason, count in sorted(self._tallies.refused.items()):
            refused.add_metric([reason], count)
        http = CounterMetricFamily(
            "onnxport_http_requests", "HTTP requests by road and status.", labels=("road", "status")
        )
        for (road, status), count in sorted(self._tallies.http.items()):
            http.add_metric([road, str(status)], count)
        active = GaugeMetricFamily(
            "onnxport_http_active_requests", "Requests being answered.", value=self._tallies.active
        )
        yield from (refused, http, active)


def _add(family: HistogramMetricFamily, labels: list[str], values: Distribution) -> None:
    family.add_metric(labels, values.buckets(), values.total)


class _Page(Collector):
    """Families of plain values, as a collector that is asked once."""

    def __init__(
        self,
        families: Sequence[Mapping[str, Any]],
        *,
        workers: int,
        restarts: int,
        repository_ok: bool,
    ) -> None:
        self._families = families
        self._repository_ok = repository_ok
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
        yield GaugeMetricFamily(
            "onnxport_repository_ok",
            "1 if the repository could be read when it was looked at last, else 0.",
            value=self._repository_ok,
        )
