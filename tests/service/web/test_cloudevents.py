"""CloudEvents around V1, in and out."""

from __future__ import annotations

import base64
from datetime import datetime

import httpx
import pytest

from tests.support.models import png

pytestmark = pytest.mark.asyncio(loop_scope="session")

ATTRIBUTES = {"specversion": "1.0", "id": "36", "source": "a-broker", "type": "a-question"}
HEADERS = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=UTF-8"}
DOUBLER = "/v1/models/doubler:predict"
QUESTION = {"instances": [[1, 2]]}
ANSWER = {"predictions": [[2, 4]]}


def check_attributes(found: dict[str, str]) -> None:
    """Check that attributes are those of an answer by KServe, under an id of their own."""
    assert found["specversion"] == "1.0"
    assert found["type"] == "io.kserve.inference.response"
    assert found["source"] == "io.kserve.inference.doubler"
    assert found["id"] not in ("", ATTRIBUTES["id"])
    assert datetime.fromisoformat(found["time"]).utcoffset() is not None


async def test_an_event_in_headers_is_answered_by_one(client: httpx.AsyncClient) -> None:
    """In binary mode the body is the request as ever, and the answer's headers make an event."""
    answer = await client.post(DOUBLER, json=QUESTION, headers=HEADERS)
    assert answer.json() == ANSWER
    assert answer.headers["content-type"] == "application/json"
    ours = {n.removeprefix("ce-"): v for n, v in answer.headers.items() if n.startswith("ce-")}
    check_attributes(ours)


async def test_an_event_as_body_is_answered_by_one(client: httpx.AsyncClient) -> None:
    """In structured mode request and answer stand under `data`."""
    event = {**ATTRIBUTES, "data": QUESTION}
    answer = await client.post(DOUBLER, json=event, headers=STRUCTURED)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/cloudevents+json"
    content = answer.json()
    assert content.pop("data") == ANSWER
    assert content.pop("datacontenttype") == "application/json"
    check_attributes(content)


async def test_events_carry_pictures_and_encoded_requests(client: httpx.AsyncClient) -> None:
    """Bytes travel as base64 and are what the event says they are."""
    picture = png([[0, 255], [0, 255]])
    road = "/v1/models/pictures:predict"
    event = {**ATTRIBUTES, "datacontenttype": "image/png", "data_base64": coded(picture)}
    whole = await client.post(road, json=event, headers=STRUCTURED)
    headers = {**HEADERS, "content-type": "image/png"}
    parts = await client.post(road, content=picture, headers=headers)
    assert whole.json()["data"] == parts.json()
    assert parts.json()["predictions"][0]["label"] == "right"
    event = {**ATTRIBUTES, "data_base64": coded(b'{"instances": [[1, 2]]}')}
    answer = await client.post(DOUBLER, json=event, headers=STRUCTURED)
    assert answer.json()["data"] == ANSWER


async def test_half_an_event_is_none(client: httpx.AsyncClient) -> None:
    """Without all required attributes the request is answered as any other."""
    headers = {name: value for name, value in HEADERS.items() if name != "ce-source"}
    answer = await client.post(DOUBLER, json=QUESTION, headers=headers)
    assert answer.json() == ANSWER
    assert not any(name.startswith("ce-") for name in answer.headers)


async def test_an_event_that_calls_itself_json(client: httpx.AsyncClient) -> None:
    """As with KServe, it is understood and answered plainly."""
    answer = await client.post(DOUBLER, json={**ATTRIBUTES, "data": QUESTION})
    assert answer.json() == ANSWER
    half = await client.post(DOUBLER, json={"id": "1", "data": QUESTION})
    assert half.json()["error"].startswith("instances: missing")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"specversion": "2.0"}, "specversion: expected 1.0 or 0.3, got '2.0'"),
        ({"id": 7}, "id: expected a string, got the number 7"),
        ({"source": None}, "source: expected a string, got null"),
        ({"data": [1]}, "data: expected an object, got an array"),
        ({"data": None}, "data: expected an object, got null"),
        ({"data": None, "data_base64": "?"}, "data_base64: not base64"),
        ({"data": None, "data_base64": 1}, "data_base64: expected a string"),
        ({"data": None, "data_base64": "", "datacontenttype": 1}, "datacontenttype: expected"),
        ({"data": {"instances": 5}}, "instances: expected an array, got the number 5"),
    ],
)
async def test_wrong_events_are_named(
    client: httpx.AsyncClient, changes: dict[str, object], text: str
) -> None:
    """The text names the member and what was seen of it, in the shape of every error."""
    event = {**ATTRIBUTES, "data": QUESTION, **changes}
    answer = await client.post(DOUBLER, json=event, headers=STRUCTURED)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"].startswith(text)


async def test_a_wrong_version_in_headers(client: httpx.AsyncClient) -> None:
    """An event of a version that nobody knows is refused in binary mode too."""
    headers = {**HEADERS, "ce-specversion": "9"}
    answer = await client.post(DOUBLER, json=QUESTION, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"] == "ce-specversion: expected 1.0 or 0.3, got '9'"


def coded(raw: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(raw).decode()
