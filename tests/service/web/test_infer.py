"""V2 infer over real models."""

from __future__ import annotations

import asyncio

import httpx
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(params=["asgi", "direct"])
def client(
    request: pytest.FixtureRequest,
    asgi_client: httpx.AsyncClient,
    direct_client: httpx.AsyncClient,
) -> httpx.AsyncClient:
    """Return a client by each of both roads, which must not differ."""
    return asgi_client if request.param == "asgi" else direct_client


def tensor(name: str, datatype: str, shape: list[int], data: list[object]) -> dict[str, object]:
    """Return one tensor of a request."""
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


async def infer(client: httpx.AsyncClient, model: str, **members: object) -> dict[str, object]:
    """Return the answer to a request with these members."""
    answer = await client.post(f"/v2/models/{model}/infer", json=members)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert isinstance(content, dict)
    return content


async def test_an_answer_names_model_version_and_id(client: httpx.AsyncClient) -> None:
    """The whole answer, as clients of the protocol expect it."""
    answer = await infer(client, "doubler", id="7", inputs=[tensor("x", "FP32", [1, 2], [1, 2])])
    assert answer == {
        "model_name": "doubler",
        "model_version": "1",
        "id": "7",
        "outputs": [tensor("y", "FP32", [1, 2], [2.0, 4.0])],
    }


async def test_no_id_is_invented(client: httpx.AsyncClient) -> None:
    """An answer carries an id only where the request did."""
    answer = await infer(client, "doubler", inputs=[tensor("x", "FP32", [0, 2], [])])
    assert "id" not in answer
    assert answer["outputs"] == [tensor("y", "FP32", [0, 2], [])]


async def test_outputs_can_be_chosen(client: httpx.AsyncClient) -> None:
    """All outputs in the model's order, or those that are named."""
    inputs = [tensor("b", "INT32", [1, 2], [1, 1]), tensor("a", "INT32", [1, 2], [3, 4])]
    total, difference = (
        tensor("sum", "INT32", [1, 2], [4, 5]),
        tensor("difference", "INT32", [1, 2], [2, 3]),
    )
    assert (await infer(client, "pair", inputs=inputs))["outputs"] == [total, difference]
    chosen = [{"name": "difference"}, {"name": "difference"}]
    assert (await infer(client, "pair", inputs=inputs, outputs=chosen))["outputs"] == [difference]


async def test_texts_are_tensors_too(client: httpx.AsyncClient) -> None:
    """BYTES are strings in both directions."""
    inputs = [tensor("x", "BYTES", [2], ["héllo", ""])]
    answer = await infer(client, "words", inputs=inputs)
    assert answer["outputs"] == [tensor("y", "BYTES", [2], ["héllo", ""])]


async def test_narrow_integers_keep_their_type(client: httpx.AsyncClient) -> None:
    """UINT8 goes in and comes out as UINT8."""
    answer = await infer(client, "bytes8", inputs=[tensor("x", "UINT8", [1, 2], [100, 3.0])])
    assert answer["outputs"] == [tensor("y", "UINT8", [1, 2], [200, 6])]


async def test_what_is_not_finite_is_null(client: httpx.AsyncClient) -> None:
    """JSON has no infinity."""
    answer = await infer(client, "divider", inputs=[tensor("x", "FP32", [1, 2], [0, 4])])
    assert answer["outputs"] == [tensor("y", "FP32", [1, 2], [None, 0.25])]


async def test_callers_at_once_get_their_own_answers(client: httpx.AsyncClient) -> None:
    """Requests that share a run are taken apart again."""

    async def double(value: int) -> object:
        inputs = [tensor("x", "FP32", [1, 2], [value, -value])]
        outputs = (await infer(client, "doubler", inputs=inputs))["outputs"]
        assert isinstance(outputs, list)
        return outputs[0]["data"]

    answers = await asyncio.gather(*(double(value) for value in range(40)))
    assert answers == [[2 * value, -2 * value] for value in range(40)]


async def test_a_guilty_request_fails_alone(client: httpx.AsyncClient) -> None:
    """One refused id among many callers costs no neighbour its answer."""

    async def look_up(number: int) -> int:
        inputs = [tensor("ids", "INT64", [1], [number])]
        answer = await client.post("/v2/models/embedding/infer", json={"inputs": inputs})
        return answer.status_code

    statuses = await asyncio.gather(*(look_up(n) for n in [0, 1, 9, 2, 3, 0]))
    assert statuses == [200, 200, 400, 200, 200, 200]


async def test_names_are_percent_decoded_and_queries_ignored(client: httpx.AsyncClient) -> None:
    """Triton's client encodes names; nobody's query string changes a road."""
    inputs = [tensor("x", "FP32", [1, 2], [1, 2])]
    answer = await client.post("/v2/models/d%6Fubler/versions/1/infer?a=b", json={"inputs": inputs})
    assert answer.json()["model_name"] == "doubler"
