"""Spans for OpenTelemetry: a request, its stages, and the runs that requests shared.

They are written down when a request has ended, from the times that are measured anyway, and sent
by a thread of the SDK.  The only importer of opentelemetry, which is an extra.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
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
    """Sends spans; an observer of the runtime, and the recorder of exchanges.

    Spans are made whole, after the fact: the SDK's own way, with its locks and limits for spans
    that are still under way, takes the event loop 380 us a request where this takes 50.
    """

    def __init__(self, destination: Destination) -> None:
        """Begin to send; raises ConfigurationError if the extra is not installed."""
        try:
            from opentelemetry import trace  # noqa: PLC0415 - an extra
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                f"otlp_endpoint: needs the extra otel (pip install 'onnxport[otel]'): {error}"
            ) from error
        exporter = OTLPSpanExporter(
            endpoint=destination.url, headers=destination.pairs(), timeout=_SEND_SECONDS
        )
        self._api = trace
        self._processor = BatchSpanProcessor(exporter)
        self._make = partial(
            ReadableSpan,
            resource=Resource.create({"service.name": "onnxport", "service.version": __version__}),
            instrumentation_scope=InstrumentationScope("onnxport", __version__),
        )
        self._sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        # Ids of spans and of runs' traces that nobody else has to know.
        self._random = secrets.SystemRandom().getrandbits

    def close(self) -> None:
        """Send what is left; takes seconds if nobody answers."""
        self._processor.shutdown()

    def exchange(self, visit: Visit, trace: Trace, status: int) -> None:
        """Write down an exchange that has ended, with its stages below it."""
        now, api = time.monotonic(), self._api
        request = self._context(trace.id, trace.span)
        for name, began, ended in stages_of(visit, now):
            self._send(
                name=name,
                context=self._new_context(request.trace_id),
                parent=request,
                start_time=_epoch(began),
                end_time=_epoch(ended),
            )
        failed = api.Status(api.StatusCode.ERROR, visit.error or None) if status >= 500 else None
        self._send(
            name=f"{visit.method} {visit.road}",
            context=request,
            parent=self._context(trace.id, trace.parent, remote=True) if trace.parent else None,
            kind=api.SpanKind.SERVER,
            attributes=_attributes(visit, status),
            start_time=_epoch(visit.started),
            end_time=_epoch(now),
            **({"status": failed} if failed else {}),
        )

    def traced(self, run: RunTrace) -> None:
        """Write down a run, linked to the requests that were part of it."""
        self._send(
            name="batch",
            # A trace of its own: it belongs to many.
            context=self._new_context(self._random(128) or 1),
            links=[self._api.Link(self._context(one.id, one.span)) for one in run.traces],
            attributes={
                "onnxport.model": run.model,
                "onnxport.version": run.version,
                "onnxport.rows": run.rows,
            },
            start_time=_epoch(run.started),
            end_time=_epoch(run.ended),
        )

    def _send(self, **facts: Any) -> None:  # noqa: ANN401 - what the SDK takes
        """Hand a span to the thread that sends; a full queue loses it."""
        self._processor.on_end(self._make(**facts))

    def _context(self, trace: str, span: str, *, remote: bool = False) -> SpanContext:
        return self._api.SpanContext(int(trace, 16), int(span, 16), remote, self._sampled)

    def _new_context(self, trace: int) -> SpanContext:
        return self._api.SpanContext(trace, self._random(64) or 1, False, self._sampled)  # noqa: FBT003


def telemetry_of(settings: Settings) -> Telemetry | None:
    """Return who sends spans, None where no endpoint is set: nothing is sent unasked."""
    if not settings.otlp_endpoint:
        return None
    return Telemetry(Destination(settings.otlp_endpoint, settings.otlp_headers))


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
