"""What every answer carries, on the direct road and on the other."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from io import StringIO

import httpx
import pytest

from service import logs
from service.scheduling import Timings
from service.web.visit import server_timing
from tests.support.apps import make_app
from tests.support.clients import on_a_socket

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2]}]}
).encode()
INFER = "/v2/models/tiny/infer"
ROADS = [(BODY, {}), (gzip.compress(BODY), {"content-encoding": "gzip"})]


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Return what is logged, as JSON lines."""
    root, ours = logging.getLogger(), logging.getLogger("onnxport")
    before = (root.handlers[:], root.level, ours.level)
    stream = StringIO()
    logs.configure(style="json", stream=stream)
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def access_lines(log: StringIO) -> list[dict[str, str]]:
    """Return the lines of requests."""
    records = map(json.loads, log.getvalue().splitlines())
    return [record for record in records if record["logger"] == "onnxport.access"]


@pytest.mark.parametrize(("body", "headers"), ROADS, ids=["direct", "asgi"])
async def test_a_callers_trace_is_in_answer_and_log(
    body: bytes, headers: dict[str, str], log: StringIO
) -> None:
    """Its id is kept, the span is ours, and both are in the line of the request."""
    async with on_a_socket(make_app()) as client:
        answer = await client.post(INFER, content=body, headers={**PARENT, **headers})
    assert answer.status_code == 200
    version, trace, span, flags = answer.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    (line,) = access_lines(log)
    assert (line["trace_id"], line["span_id"]) == (TRACE, span)
    assert span != SPAN


@pytest.mark.parametrize(("body", "headers"), ROADS, ids=["direct", "asgi"])
async def test_without_one_a_trace_begins_here(
    body: bytes, headers: dict[str, str], log: StringIO
) -> None:
    """It has the id of the request where that is ours; nothing is echoed that nobody sent."""
    async with on_a_socket(make_app()) as client:
        own = await client.post(INFER, content=body, headers=headers)
        other = await client.post(INFER, content=body, headers={**headers, "x-request-id": "mine"})
    assert "traceparent" not in own.headers
    first, second = access_lines(log)
    assert first["trace_id"] == first["request_id"] == own.headers["x-request-id"]
    assert (second["request_id"], other.headers["x-request-id"]) == ("mine", "mine")
    assert len(second["trace_id"]) == 32
    assert len(second["span_id"]) == 16


@pytest.mark.parametrize(("body", "headers"), ROADS, ids=["direct", "asgi"])
async def test_predictions_tell_where_the_time_went(body: bytes, headers: dict[str, str]) -> None:
    """As Server-Timing, which browsers and many tools show; refusals have no stages."""
    async with on_a_socket(make_app()) as client:
        answer = await client.post(INFER, content=body, headers=headers)
        refused = await client.post(INFER, content=b"{", headers={})
    assert answer.headers["server-timing"] == "queue;dur=0.000, infer;dur=0.000"
    assert refused.status_code == 400
    assert "server-timing" not in refused.headers


async def test_v1_tells_it_too() -> None:
    """Whatever road an answer comes by."""
    async with on_a_socket(make_app()) as client:
        answer: httpx.Response = await client.post(
            "/v1/models/tiny:predict", json={"instances": [1]}
        )
    assert answer.status_code == 200
    assert answer.headers["server-timing"].startswith("queue;dur=")


def test_milliseconds_by_stage() -> None:
    """Those before and after the model only where there was a pipeline."""
    assert server_timing(Timings(0.0015, 0.25, 3)) == b"queue;dur=1.500, infer;dur=250.000"
    assert server_timing(Timings(0.0, 0.001, 3, 5.0, 0.002, 0.003)) == (
        b"queue;dur=0.000, infer;dur=1.000, preprocess;dur=2.000, postprocess;dur=3.000"
    )
