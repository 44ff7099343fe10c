"""Spans, from real requests through the real exporter to a receiver in this process."""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.errors import ConfigurationError
from service.settings import Settings
from service.telemetry import Destination, Telemetry
from tests.support import models
from tests.support.remote import running

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]}
PATIENCE = 60.0


class Receiver:
    """What a collector has been sent: path, headers and spans."""

    def __init__(self, address: str) -> None:
        """Begin with nothing."""
        self.address = address
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.resources: list[dict[str, str]] = []
        self.spans: list[Any] = []

    def named(self, name: str) -> list[Any]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]

    def children(self, parent: Any) -> list[str]:
        """Return the names of the spans right below one, in the order in which they began."""
        found = [span for span in self.spans if span.parent_span_id == parent.span_id]
        return [s.name for s in sorted(found, key=lambda s: (s.start_time_unix_nano, s.name))]


@contextmanager
def collecting() -> Iterator[Receiver]:
    """Receive what the OTLP exporter sends."""
    service = pytest.importorskip(
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="needs the extra otel"
    )

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.paths.append(self.path)
            receiver.headers.append({k.lower(): v for k, v in self.headers.items()})
            for sent in service.ExportTraceServiceRequest.FromString(body).resource_spans:
                told = {a.key: a.value.string_value for a in sent.resource.attributes}
                receiver.resources.append(told)
                receiver.spans += [span for scope in sent.scope_spans for span in scope.spans]
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Write nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join(PATIENCE)


@contextmanager
def traced(folder: Path, receiver: Receiver, **settings: Any) -> Iterator[httpx.Client]:
    """Serve two models and send spans to the receiver; all are sent when it ends."""
    models.text_bundle(folder)
    models.write_doubler(folder / "doubler.onnx")
    app = create_app(
        Settings(repository=folder, access_log=False, otlp_endpoint=receiver.address, **settings)
    )
    with running(app) as address, httpx.Client(base_url=address, timeout=PATIENCE) as client:
        until = time.monotonic() + PATIENCE
        while client.get("/v2/health/ready").status_code != 200:
            assert time.monotonic() < until
        yield client


def double(client: httpx.Client, headers: dict[str, str] | None = None) -> httpx.Response:
    """Ask the doubler."""
    return client.post("/v2/models/doubler/infer", json={"inputs": [TENSOR]}, headers=headers)


def attributes(span: Any) -> dict[str, object]:
    """Return a span's attributes as plain values."""
    values = {}
    for one in span.attributes:
        value = one.value
        values[one.key] = value.string_value if value.HasField("string_value") else value.int_value
    return values


def test_a_request_its_stages_and_its_run(tmp_path: Path) -> None:
    """The request is the caller's child, with the span that the answer names; the run is linked."""
    with collecting() as receiver:
        with traced(tmp_path, receiver) as client:
            answer = double(client, PARENT)
        (request,) = receiver.named("POST /v2/models/{name}/infer")
        (run,) = receiver.named("batch")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, SPAN)
    assert answer.headers["traceparent"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert receiver.children(request) == ["preprocess", "queue", "infer", "postprocess"]
    told = attributes(request)
    assert told["http.response.status_code"] == 200
    assert told["onnxport.model"] == "doubler"
    assert told["onnxport.request_id"] == answer.headers["x-request-id"]
    (link,) = run.links
    assert (link.trace_id, link.span_id) == (request.trace_id, request.span_id)
    assert run.trace_id != request.trace_id
    assert attributes(run)["onnxport.rows"] == 1
    (infer,) = receiver.named("infer")
    assert infer.start_time_unix_nano <= infer.end_time_unix_nano <= request.end_time_unix_nano
    assert abs(run.start_time_unix_nano - infer.start_time_unix_nano) < 1_000_000_000


def test_both_protocols_and_both_roads(tmp_path: Path) -> None:
    """V1 goes through the pipeline, a compressed V2 call past the direct road; all have stages."""
    with collecting() as receiver, traced(tmp_path, receiver) as client:
        texts = {"instances": ["one"]}
        answers = [client.post("/v1/models/texts:predict", json=texts, headers=PARENT)]
        packed = gzip.compress(httpx.Request("POST", "http://x", json={"inputs": [TENSOR]}).content)
        headers = {**PARENT, "content-encoding": "gzip"}
        answers += [client.post("/v2/models/doubler/infer", content=packed, headers=headers)]
    assert [answer.status_code for answer in answers] == [200, 200]
    requests = [span for span in receiver.spans if span.parent_span_id.hex() == SPAN]
    assert len(requests) == 2
    for request in requests:
        assert receiver.children(request) == ["preprocess", "queue", "infer", "postprocess"]
        assert receiver.named("batch")
    assert len(receiver.named("batch")) == 2


def test_a_trace_that_begins_here_is_the_one_of_the_log(tmp_path: Path) -> None:
    """Without a parent the request is the root; a failed one says why."""
    with collecting() as receiver, traced(tmp_path, receiver) as client:
        answer = client.post("/v2/models/none/infer", json={"inputs": [TENSOR]})
    (request,) = receiver.named("POST /v2/models/{name}/infer")
    assert request.parent_span_id == b""
    assert request.trace_id.hex() == answer.headers["x-request-id"]
    assert attributes(request)["error.type"] == "model_not_found"
    assert receiver.children(request) == []


def test_probes_are_not_sent(tmp_path: Path) -> None:
    """They come every second and say nothing."""
    with collecting() as receiver, traced(tmp_path, receiver) as client:
        client.get("/v2/health/live")
        client.get("/v2")
    assert [span.name for span in receiver.spans] == ["GET /v2"]


def test_what_is_not_sampled_is_not_sent(tmp_path: Path) -> None:
    """A ratio of none leaves the traces that callers have chosen."""
    with collecting() as receiver, traced(tmp_path, receiver, trace_ratio=0) as client:
        double(client)
        double(client, {"traceparent": f"00-{TRACE}-{SPAN}-00"})
        double(client, PARENT)
    assert len(receiver.named("POST /v2/models/{name}/infer")) == 1
    assert len(receiver.named("batch")) == 1


def test_the_receiver_gets_path_headers_and_service(tmp_path: Path) -> None:
    """An endpoint without a path means the protocol's own."""
    headers = "authorization=Bearer abc, x-team = ml"
    with collecting() as receiver, traced(tmp_path, receiver, otlp_headers=headers) as client:
        double(client)
    assert set(receiver.paths) == {"/v1/traces"}
    assert receiver.headers[0]["authorization"] == "Bearer abc"
    assert receiver.headers[0]["x-team"] == "ml"
    assert receiver.resources[0]["service.name"] == "onnxport"


def test_endpoints_and_headers() -> None:
    """A whole URL stays as it is; what is no header is refused without being shown."""
    assert Destination("http://c:4318").url == "http://c:4318/v1/traces"
    assert Destination("http://c:4318/").url == "http://c:4318/v1/traces"
    assert Destination("https://c/otlp/traces").url == "https://c/otlp/traces"
    assert Destination("http://c", "a=b=c,").pairs() == {"a": "b=c"}
    with pytest.raises(ConfigurationError) as caught:
        Destination("http://c", "secret").pairs()
    assert "secret" not in str(caught.value)


def test_without_the_extra_the_server_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not start in silence and send nothing."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'onnxport\[otel\]'"):
        Telemetry(Destination("http://127.0.0.1:1"))
