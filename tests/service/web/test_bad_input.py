"""Bad input gets 400, 404, 413 or 415 with a text that names the field and the value, never 500."""

from __future__ import annotations

import base64

import httpx
import pytest

from tests.support.models import bomb, png

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(params=["asgi", "direct"])
def client(
    request: pytest.FixtureRequest,
    asgi_client: httpx.AsyncClient,
    direct_client: httpx.AsyncClient,
) -> httpx.AsyncClient:
    """Return a client by each of both roads, which must not differ."""
    return asgi_client if request.param == "asgi" else direct_client


PREDICT = "/v1/models/{}:predict"
INFER = "/v2/models/{}/infer"


def said(answer: httpx.Response, status: int) -> str:
    """Check the status and the one shape of an error, and return its text."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    content = answer.json()
    assert list(content) == ["error"]
    assert content["error"]
    return str(content["error"])


def tensor(**changes: object) -> dict[str, object]:
    """Return a request for the doubler with some members of its tensor changed."""
    return {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2], **changes}]
    }


async def test_a_length_beyond_the_series_is_named(client: httpx.AsyncClient) -> None:
    """It is refused before it is queued, with its place, its value and the bound."""
    inputs = [
        {"name": "values", "datatype": "FP32", "shape": [1, 2, 2], "data": [1, 2, 3, 4]},
        {"name": "lengths", "datatype": "INT64", "shape": [1], "data": [9]},
    ]
    text = said(await client.post(INFER.format("series"), json={"inputs": inputs}), 400)
    assert text == "input 'lengths': element 0 is 9, but axis 'time' of input 'values' is 2 long"


@pytest.mark.parametrize("road", [PREDICT, INFER])
@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"inputs": [1,]}', b"\xff\xfe{}", b"[]", b'"text"', b"NaN", b"{'a': 1}"]
)
async def test_malformed_json(client: httpx.AsyncClient, road: str, body: bytes) -> None:
    """A body that is not a JSON object is named as the body."""
    text = said(await client.post(road.format("doubler"), content=body), 400)
    assert text.startswith("body:")


async def test_wrong_shape(client: httpx.AsyncClient) -> None:
    """The expected and the seen shape are told."""
    call = tensor(shape=[1, 3], data=[1, 2, 3])
    text = said(await client.post(INFER.format("doubler"), json=call), 400)
    assert text == "input 'x': expected shape [-1, 2], got [1, 3]"


async def test_shape_that_its_data_do_not_fill(client: httpx.AsyncClient) -> None:
    """A count that does not fit the shape is told with both numbers."""
    text = said(await client.post(INFER.format("doubler"), json=tensor(shape=[2, 2])), 400)
    assert "[2, 2] asks for 4 elements, data has 2" in text


async def test_wrong_dtype(client: httpx.AsyncClient) -> None:
    """The expected and the seen datatype are told."""
    text = said(await client.post(INFER.format("doubler"), json=tensor(datatype="INT64")), 400)
    assert text == "input 'x': expected FP32, got INT64"


async def test_wrong_rank(client: httpx.AsyncClient) -> None:
    """A missing batch axis is a wrong rank."""
    text = said(await client.post(INFER.format("doubler"), json=tensor(shape=[2])), 400)
    assert "expected 2 dimensions [-1, 2], got 1: [2]" in text


async def test_rows_that_differ_between_inputs(client: httpx.AsyncClient) -> None:
    """One row is never broadcast to another input's two rows in silence."""
    inputs = [
        {"name": "a", "datatype": "INT32", "shape": [1, 2], "data": [1, 2]},
        {"name": "b", "datatype": "INT32", "shape": [2, 2], "data": [1, 2, 3, 4]},
    ]
    text = said(await client.post(INFER.format("pair"), json={"inputs": inputs}), 400)
    assert "'b'" in text
    assert "axis" in text


async def test_inputs_and_outputs_that_do_not_exist(client: httpx.AsyncClient) -> None:
    """A wrong name is told beside the right ones."""
    wrong = said(await client.post(INFER.format("doubler"), json=tensor(name="z")), 400)
    assert "'z'" in wrong
    assert "'x'" in wrong
    missing = said(await client.post(INFER.format("pair"), json=tensor(name="a")), 400)
    assert "'a'" in missing or "'b'" in missing
    call = {**tensor(), "outputs": [{"name": "z"}]}
    output = said(await client.post(INFER.format("doubler"), json=call), 400)
    assert "output 'z'" in output


@pytest.mark.parametrize("content", [{"instances": []}, {}, {"instances": 5}, {"instances": None}])
async def test_empty_instances(client: httpx.AsyncClient, content: dict[str, object]) -> None:
    """No instances, and instances that are no list, are told apart from other fields."""
    assert said(await client.post(PREDICT.format("texts"), json=content), 400).startswith(
        "instances"
    )


async def test_ragged_numbers(client: httpx.AsyncClient) -> None:
    """Steps of different widths are no series, and the instance is named."""
    instances = [[[1, 2]], [[1, 2], [3]]]
    text = said(await client.post(PREDICT.format("series"), json={"instances": instances}), 400)
    assert text.startswith("instances[1]: ")
    assert "ragged" in text


async def test_nan_where_it_is_refused(client: httpx.AsyncClient) -> None:
    """A NaN, as a token or as null, is refused by a contract that asks for finite numbers."""
    for token in (b"NaN", b"null", b"-Infinity"):
        body = b'{"instances": [[[1, %s]]]}' % token
        text = said(await client.post(PREDICT.format("series"), content=body), 400)
        assert f"is {token.decode()}, expected a" in text
        assert "step 0, channel 1" in text


async def test_ids_out_of_the_vocabulary(client: httpx.AsyncClient) -> None:
    """An id beyond the contract's bound is refused before it reaches a batch."""
    for seen in (130, -1):
        call = tensor(name="tokens", datatype="INT64", shape=[1, 2], data=[1, seen])
        assert str(seen) in said(await client.post(INFER.format("texts"), json=call), 400)


async def test_ids_that_only_the_model_refuses(client: httpx.AsyncClient) -> None:
    """Without a contract the model's own refusal is the caller's fault too."""
    call = tensor(name="ids", datatype="INT64", shape=[1], data=[9])
    assert "refuses" in said(await client.post(INFER.format("embedding"), json=call), 400)


@pytest.mark.parametrize("as_json", [True, False])
async def test_a_truncated_png(client: httpx.AsyncClient, *, as_json: bool) -> None:
    """Half a picture is damaged, whichever way it came."""
    whole = png([[(x * y) % 251 for x in range(40)] for y in range(40)])
    half = whole[: len(whole) // 2]
    assert "picture" in said(await send_picture(client, half, as_json=as_json), 400)


@pytest.mark.parametrize("as_json", [True, False])
async def test_an_image_bomb(client: httpx.AsyncClient, *, as_json: bool) -> None:
    """50,000 x 50,000 declared pixels are refused by the header alone."""
    assert "pixels" in said(await send_picture(client, bomb(50_000), as_json=as_json), 413)


async def send_picture(client: httpx.AsyncClient, raw: bytes, *, as_json: bool) -> httpx.Response:
    """Send a picture as base64 in JSON or as the whole body."""
    road = PREDICT.format("pictures")
    if as_json:
        return await client.post(
            road, json={"instances": [{"b64": base64.b64encode(raw).decode()}]}
        )
    return await client.post(road, content=raw, headers={"content-type": "image/png"})


@pytest.mark.parametrize(
    "instance",
    [{"b64": "%%%"}, {"b64": 5}, {"b65": "aa"}, {"b64": ""}, "text", None, [], [[300]], [[1.5, 2]]],
)
async def test_pictures_that_are_none(client: httpx.AsyncClient, instance: object) -> None:
    """Whatever is sent for a picture, the instance and the picture are named."""
    answer = await client.post(PREDICT.format("pictures"), json={"instances": [instance]})
    assert said(answer, 400).startswith("instances[0]: picture")


async def test_an_empty_picture(client: httpx.AsyncClient) -> None:
    """An image without bytes is an empty body."""
    assert "body: empty" in said(await send_picture(client, b"", as_json=False), 400)


async def test_text_that_is_not_utf8(client: httpx.AsyncClient) -> None:
    """Bytes that are no UTF-8 are refused with the place where they stand."""
    body = b'{"instances": ["caf\xe9"]}'
    text = said(await client.post(PREDICT.format("texts"), content=body), 400)
    assert "UTF-8" in text


@pytest.mark.parametrize("instance", [5, None, ["a"], {"a": "b"}, True])
async def test_texts_that_are_none(client: httpx.AsyncClient, instance: object) -> None:
    """A text is a string and nothing else."""
    answer = await client.post(PREDICT.format("texts"), json={"instances": ["fine", instance]})
    assert said(answer, 400).startswith("instances[1]: text")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/nobody:predict"),
        ("POST", "/v1/models/doubler/versions/9:predict"),
        ("POST", "/v2/models/nobody/infer"),
        ("POST", "/v2/models/doubler/versions/9/infer"),
        ("GET", "/v2/models/nobody"),
        ("GET", "/v2/models/nobody/ready"),
        ("GET", "/v1/models/nobody"),
        ("GET", "/v1/models/nobody/info"),
    ],
)
async def test_an_unknown_model(client: httpx.AsyncClient, method: str, path: str) -> None:
    """The name that was asked for is told, in the words that Triton's clients look for."""
    body = {"instances": [[1, 2]], **tensor()} if method == "POST" else None
    text = said(await client.request(method, path, json=body), 404)
    assert "Request for unknown model" in text
    assert "nobody" in text or "version 9" in text


async def test_a_body_over_the_limit(client: httpx.AsyncClient) -> None:
    """A body that says its size is refused unread, one that does not while it arrives."""
    big = b" " * ((1 << 20) + 1)
    text = said(await client.post(INFER.format("doubler"), content=big), 413)
    assert "1048576" in text
    assert str(len(big)) in text

    async def pieces() -> object:
        for _ in range(3):
            yield b" " * (1 << 19)

    answer = await client.post(INFER.format("doubler"), content=pieces())  # type: ignore[arg-type] # the generator is one of bytes
    assert "1048576" in said(answer, 413)


async def test_an_encoding_that_is_not_undone(client: httpx.AsyncClient) -> None:
    """A body in another coding is refused with the coding seen and those understood."""
    for road in (PREDICT, INFER):
        for coding in ("br", "gzip, gzip"):
            answer = await client.post(
                road.format("doubler"), content=b"x", headers={"content-encoding": coding}
            )
            assert coding in said(answer, 415)
            assert answer.headers["accept-encoding"] == "gzip, deflate"


async def test_timeouts_that_are_none(client: httpx.AsyncClient) -> None:
    """The header takes whole milliseconds above zero and says so."""
    for value in ("0", "-1", "soon", "1.5", "9" * 40):
        answer = await client.post(
            INFER.format("doubler"), json=tensor(), headers={"x-request-timeout-ms": value}
        )
        assert "X-Request-Timeout-Ms" in said(answer, 400)
