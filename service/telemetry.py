"""Spans for OpenTelemetry: a request, its stages, and the runs that requests shared.

They are written down when a request has ended, from the times that are measured anyway, and sent
by a thread of the SDK.  The only importer of opentelemetry, which is an extra.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service import __version__
from service.errors import ConfigurationError
from service.observer import NullObserver
from service.settings import Settings
from service.tracing import RunTrace, Trace
from service.web.visit import Visit

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

_TRACES_PATH = "/v1/traces"
_SEND_SECONDS = 5.0
_Span = tuple[str, float, float]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where spans are sent: an OTLP/HTTP endpoint, and the headers that it wants."""

    endpoint: str
    headers: str = ""

    @property
    def url(self) -> str:
        """The whole URL; an endpoint without a path gets the protocol's own."""
        plain = urlsplit(self.endpoint).path in ("", "/")
        return f"{self.endpoint.rstrip('/')}{_TRACES_PATH}" if plain else self.endpoint

    def pairs(self) -> dict[str, str]:
        """Return the headers; raises ConfigurationError for what is no name=value."""
        pairs = {}
        for text in filter(None, (part.strip() for part in self.headers.split(","))):
            name, equals, value = text.partition("=")
            if not (equals and name.strip()):
                # The text may be a secret.
                raise ConfigurationError("otlp_headers: expected name=value,name=value")
            pairs[name.strip()] = value.strip()
        return pairs


def stages_of(visit: Visit, now: float) -> Iterator[_Span]:
    """Yield name, begin and end of each stage of an exchange that a model has answered.

    Times are monotonic seconds.  What comes before the queue is preprocessing, and what comes
    after the run is postprocessing, whatever the protocol.
    """
    timings = visit.timings
    if timings is None:
        return
    run = timings.queued_at + timings.queue
    ran = run + timings.infer
    yield "preprocess", visit.started, timings.queued_at
    yield "queue", timings.queued_at, run
    yield "infer", run, ran
    yield "postprocess", ran, max(ran, now)


class Telemetry(NullObserver):
    """Sends spans; an observer of the runtime, and the recorder of exchanges."""

    def __init__(self, destination: Destination) -> None:
        """Begin to send; raises ConfigurationError if the extra is not installed."""
        try:
            from opentelemetry import trace  # noqa: PLC0415 - an extra
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider, sampling  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                f"otlp_endpoint: needs the extra otel (pip install 'onnxport[otel]'): {error}"
            ) from error
        exporter = OTLPSpanExporter(
            endpoint=destination.url, headers=destination.pairs(), timeout=_SEND_SECONDS
        )
        self._api = trace
        self._ids = _Ids()
        self._provider = TracerProvider(
            # Which traces are recorded is decided before.
            sampler=sampling.ALWAYS_ON,
            resource=Resource.create({"service.name": "onnxport", "service.version": __version__}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("onnxport", __version__)

    def close(self) -> None:
        """Send what is left; takes seconds if nobody answers."""
        self._provider.shutdown()

    def exchange(self, visit: Visit, trace: Trace, status: int) -> None:
        """Write down an exchange that has ended, with its stages below it."""
        now = time.monotonic()
        api = self._api
        self._ids.following(trace)
        request = self._tracer.start_span(
            f"{visit.method} {visit.road}",
            context=self._below(trace.id, trace.parent, remote=True) if trace.parent else None,
            kind=api.SpanKind.SERVER,
            start_time=_epoch(visit.started),
            attributes=_attributes(visit, status),
        )
        if status >= 500:
            request.set_status(api.Status(api.StatusCode.ERROR, visit.error or None))
        within = api.set_span_in_context(request)
        for name, began, ended in stages_of(visit, now):
            stage = self._tracer.start_span(name, context=within, start_time=_epoch(began))
            stage.end(_epoch(ended))
        request.end(_epoch(now))

    def traced(self, run: RunTrace) -> None:
        """Write down a run, linked to the requests that were part of it."""
        api = self._api
        span = self._tracer.start_span(
            "batch",
            # A trace of its own: it belongs to many.
            context=api.set_span_in_context(api.INVALID_SPAN),
            start_time=_epoch(run.started),
            links=[api.Link(self._context(one.id, one.span)) for one in run.traces],
            attributes={
                "onnxport.model": run.model,
                "onnxport.version": run.version,
                "onnxport.rows": run.rows,
            },
        )
        span.end(_epoch(run.ended))

    def _context(self, trace: str, span: str, *, remote: bool = False) -> SpanContext:
        api = self._api
        flags = api.TraceFlags(api.TraceFlags.SAMPLED)
        return api.SpanContext(int(trace, 16), int(span, 16), remote, flags)

    def _below(self, trace: str, span: str, *, remote: bool) -> object:
        context = self._context(trace, span, remote=remote)
        return self._api.set_span_in_context(self._api.NonRecordingSpan(context))


def telemetry_of(settings: Settings) -> Telemetry | None:
    """Return who sends spans, None where no endpoint is set: nothing is sent unasked."""
    if not settings.otlp_endpoint:
        return None
    return Telemetry(Destination(settings.otlp_endpoint, settings.otlp_headers))


class _Ids:
    """Gives a request's span the ids that its caller and the log know, and others new ones."""

    def __init__(self) -> None:
        self._next: Trace | None = None

    def following(self, trace: Trace) -> None:
        """Have the span that is begun next be this one."""
        self._next = trace

    def generate_trace_id(self) -> int:
        """Return the trace of the next span; it is asked for only where one begins."""
        return int(self._next.id, 16) if self._next else secrets.randbits(128) | 1

    def generate_span_id(self) -> int:
        """Return the id of the next span, which is asked for last."""
        trace, self._next = self._next, None
        return int(trace.span, 16) if trace else secrets.randbits(64) | 1

    def is_trace_id_random(self) -> bool:
        """Our own are counted."""
        return False


def _attributes(visit: Visit, status: int) -> Mapping[str, str | int]:
    """Return what is told of an exchange, in OpenTelemetry's words where it has them."""
    attributes: dict[str, str | int] = {
        "http.request.method": visit.method,
        "http.route": visit.road,
        "http.response.status_code": status,
        "http.request.body.size": visit.received,
        "http.response.body.size": visit.sent,
        "client.address": visit.client,
        "onnxport.request_id": visit.id.decode(),
    }
    if visit.model:
        attributes["onnxport.model"] = visit.model
    if visit.error:
        attributes["error.type"] = visit.error
    if visit.timings is not None:
        attributes["onnxport.batch_rows"] = visit.timings.batch_rows
    return attributes


def _epoch(monotonic: float) -> int:
    """Return nanoseconds since the epoch."""
    return time.time_ns() + round((monotonic - time.monotonic()) * 1e9)
