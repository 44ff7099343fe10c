"""V2 infer in its other forms: binary, raw, classified and compressed, over real models."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import numpy as np
import pytest

from service.tensors import BFLOAT16, Tensor
from tests.support.infer import (
    LENGTH,
    asked,
    blob_of,
    body_of,
    in_binary,
    in_json,
    read_answer,
)
from tests.support.models import png

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(params=["asgi", "direct"])
def client(
    request: pytest.FixtureRequest,
    asgi_client: httpx.AsyncClient,
    direct_client: httpx.AsyncClient,
) -> httpx.AsyncClient:
    """Return a client by each of both roads, which must not differ."""
    return asgi_client if request.param == "asgi" else direct_client


PAIR = np.asarray([[3, 4]], np.int32), np.asarray([[1, 1]], np.int32)
UNASKED = {"inputs": [in_json("x", np.zeros(1))]}
ROW = np.asarray([[1, 2]], np.float32)


async def post(
    client: httpx.AsyncClient, model: str, body: bytes, **headers: str
) -> httpx.Response:
    """Send a body to a model's infer road, with no more headers than given."""
    plain = {"accept-encoding": "identity", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return await client.post(f"/v2/models/{model}/infer", content=body, headers=plain)


async def infer(
    client: httpx.AsyncClient, model: str, request: Mapping[str, Any], *blobs: bytes
) -> dict[str, Tensor]:
    """Return the tensors of the answer to a request with binary tensors."""
    body, headers = body_of(request, *blobs)
    answer = await client.post(f"/v2/models/{model}/infer", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return read_answer(answer.content, answer.headers)


async def test_binary_in_and_json_out(client: httpx.AsyncClient) -> None:
    """An answer is JSON as long as nobody asks for anything else."""
    body, headers = body_of({"inputs": [in_binary("x", ROW)]}, blob_of(ROW))
    answer = await client.post("/v2/models/doubler/infer", content=body, headers=headers)
    assert answer.headers["content-type"] == "application/json"
    assert LENGTH not in answer.headers
    assert answer.json()["outputs"][0]["data"] == [2, 4]


async def test_json_in_and_binary_out(client: httpx.AsyncClient) -> None:
    """The answer's header says how much of it is JSON; the request needs none."""
    call = {"id": "7", "inputs": [in_json("x", ROW)], "outputs": asked("y")}
    answer = await post(client, "doubler", json.dumps(call).encode())
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[LENGTH])
    head = json.loads(answer.content[:length])
    assert head == {
        "model_name": "doubler",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {
                "name": "y",
                "datatype": "FP32",
                "shape": [1, 2],
                "parameters": {"binary_data_size": 8},
            }
        ],
    }
    assert answer.content[length:] == blob_of(2 * ROW)


async def test_all_outputs_in_binary(client: httpx.AsyncClient) -> None:
    """One parameter asks for it, but an output that is listed speaks for itself."""
    call = {
        "inputs": [in_json("a", PAIR[0]), in_json("b", PAIR[1])],
        "parameters": {"binary_data_output": True},
    }
    answer = await post(client, "pair", json.dumps(call).encode())
    found = read_answer(answer.content, answer.headers)
    assert {n: v.tolist() for n, v in found.items()} == {"sum": [[4, 5]], "difference": [[2, 3]]}
    listed = {**call, "outputs": [{"name": "difference"}]}
    answer = await post(client, "pair", json.dumps(listed).encode())
    assert answer.json()["outputs"][0]["data"] == [2, 3]


async def test_forms_mixed_in_and_out(client: httpx.AsyncClient) -> None:
    """Inputs and outputs choose their form one by one; outputs keep the model's order."""
    a, b = PAIR
    for inputs, blobs in (
        ([in_binary("b", b), in_json("a", a)], [blob_of(b)]),
        ([in_json("b", b), in_binary("a", a)], [blob_of(a)]),
        ([in_binary("b", b), in_binary("a", a)], [blob_of(b), blob_of(a)]),
    ):
        outputs = asked("difference") + asked("sum", binary=False)
        found = await infer(client, "pair", {"inputs": inputs, "outputs": outputs}, *blobs)
        assert list(found) == ["sum", "difference"]
        assert found["sum"].tolist() == [[4, 5]]
        assert found["difference"].tolist() == [[2, 3]]


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream", "text/x", None])
async def test_content_types_decide_nothing(client: httpx.AsyncClient, kind: str | None) -> None:
    """Clients send binary as JSON and JSON as binary; only the length header counts."""
    kinds = {} if kind is None else {"content-type": kind}
    body, headers = body_of({"inputs": [in_binary("x", ROW)]}, blob_of(ROW))
    for content, sent in ((body, headers), (body_of({"inputs": [in_json("x", ROW)]})[0], {})):
        answer = await client.post(
            "/v2/models/doubler/infer", content=content, headers={**kinds, **sent}
        )
        assert answer.json()["outputs"][0]["data"] == [2, 4]


async def test_a_length_that_is_the_whole_body(client: httpx.AsyncClient) -> None:
    """Triton's client sends it with an empty tensor, which has no bytes."""
    empty = ROW[:0]
    assert (await infer(client, "doubler", {"inputs": [in_binary("x", empty)]}))["y"].shape == (
        0,
        2,
    )


@pytest.mark.parametrize("length", ["-1", "x", "999", "1", ""])
async def test_lengths_that_are_wrong(client: httpx.AsyncClient, length: str) -> None:
    """A header that is no length, or cuts the JSON, is the caller's fault."""
    body, _ = body_of({"inputs": [in_binary("x", ROW)]}, blob_of(ROW))
    answer = await post(client, "doubler", body, inference_header_content_length=length)
    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("model", "value"),
    [
        ("half", np.asarray([[1.5, -np.inf]], np.float16)),
        ("brain", np.asarray([[1.5, 3e38]], BFLOAT16)),
    ],
)
async def test_halves_travel_in_binary_only(
    client: httpx.AsyncClient, model: str, value: Tensor
) -> None:
    """Two-byte floats keep their bits in binary and are refused in JSON, with the way out."""
    found = await infer(
        client, model, {"inputs": [in_binary("x", value)], "outputs": asked("y")}, blob_of(value)
    )
    assert found["y"].dtype == value.dtype
    assert found["y"].tobytes() == value.tobytes()
    body, headers = body_of({"inputs": [in_binary("x", value)]}, blob_of(value))
    answer = await client.post(f"/v2/models/{model}/infer", content=body, headers=headers)
    assert answer.status_code == 400
    assert "binary_data" in answer.json()["error"]
    answer = await post(client, model, body_of({"inputs": [in_json("x", value)]})[0])
    assert answer.status_code == 400
    assert "binary" in answer.json()["error"]


async def test_texts_in_binary(client: httpx.AsyncClient) -> None:
    """Each text has its length in front; what is no UTF-8 is named and refused."""
    texts = np.asarray(["héllo", "", "a\0b"], object)
    call = {"inputs": [in_binary("x", texts)], "outputs": asked("y")}
    found = await infer(client, "words", call, blob_of(texts))
    assert found["y"].tolist() == [b"h\xc3\xa9llo", b"", b"a\0b"]
    wrong = np.asarray([b"fine", b"\xff"], object)
    body, headers = body_of({"inputs": [in_binary("x", wrong)]}, blob_of(wrong))
    answer = await client.post("/v2/models/words/infer", content=body, headers=headers)
    assert answer.status_code == 400
    assert "element 1" in answer.json()["error"]


async def test_a_body_without_json(client: httpx.AsyncClient) -> None:
    """Length 0: the body is the only input, one row, and all outputs are binary."""
    answer = await post(client, "doubler", blob_of(ROW), inference_header_content_length="0")
    assert read_answer(answer.content, answer.headers)["y"].tolist() == [[2, 4]]
    answer = await post(client, "words", b"text", inference_header_content_length="0")
    assert read_answer(answer.content, answer.headers)["y"].tolist() == [b"text"]


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [("pair", 400, "has 2"), ("nobody", 404, "nobody"), ("broken", 503, "FAILED")],
)
async def test_a_body_without_json_for_the_wrong_model(
    client: httpx.AsyncClient, model: str, status: int, words: str
) -> None:
    """Several inputs, an unknown model and one that does not answer each have their status."""
    answer = await post(client, model, blob_of(ROW), inference_header_content_length="0")
    assert answer.status_code == status
    assert words in answer.json()["error"]


@pytest.mark.parametrize("binary", [True, False])
async def test_classes_have_the_labels_of_the_contract(
    client: httpx.AsyncClient, *, binary: bool
) -> None:
    """The k best classes of each row, with their labels where the model has some."""
    rows = np.asarray([[[[0, 1], [0, 1]]], [[[1, 0], [1, 0]]]], np.float32)
    outputs = [{"name": "scores", "parameters": {"classification": 1, "binary_data": binary}}]
    call = {"inputs": [in_json("image", rows)], "outputs": outputs}
    answer = await post(client, "pictures", json.dumps(call).encode())
    found = read_answer(answer.content, answer.headers)["scores"]
    texts = [t.decode() if isinstance(t, bytes) else t for t in found.reshape(-1).tolist()]
    assert found.shape == (2, 1)
    assert [text.split(":")[1:] for text in texts] == [["1", "right"], ["0", "left"]]


async def test_classes_of_a_model_without_labels(client: httpx.AsyncClient) -> None:
    """A bare file has classes without names; 0 classes means the numbers."""
    for best, data in ((2, ["4.000000:1", "2.000000:0"]), (0, [2, 4])):
        outputs = [{"name": "y", "parameters": {"classification": best}}]
        call = {"inputs": [in_json("x", ROW)], "outputs": outputs}
        answer = await post(client, "doubler", json.dumps(call).encode())
        assert answer.json()["outputs"][0]["data"] == data


@pytest.mark.parametrize(
    ("coding", "packed_by"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_compressed_requests_on_every_road(
    client: httpx.AsyncClient, coding: str, packed_by: Any
) -> None:
    """JSON, binary, raw and V1's two kinds of body may all be packed; lengths count unpacked."""
    packed = {"content-encoding": coding}
    body, headers = body_of({"inputs": [in_binary("x", ROW)]}, blob_of(ROW))
    for content, sent in (
        (body, headers),
        (body_of({"inputs": [in_json("x", ROW)]})[0], {}),
        (blob_of(ROW), {LENGTH: "0"}),
    ):
        answer = await client.post(
            "/v2/models/doubler/infer", content=packed_by(content), headers={**sent, **packed}
        )
        assert read_answer(answer.content, answer.headers)["y"].tolist() == [[2, 4]]
    answer = await client.post(
        "/v1/models/doubler:predict", content=packed_by(b'{"instances": [[1, 2]]}'), headers=packed
    )
    assert answer.json() == {"predictions": [[2, 4]]}
    answer = await client.post(
        "/v1/models/pictures:predict",
        content=packed_by(png([[0, 255], [0, 255]])),
        headers={**packed, "content-type": "image/png"},
    )
    assert answer.json()["predictions"][0]["label"] == "right"


async def test_a_large_request_is_read_beside_the_loop(client: httpx.AsyncClient) -> None:
    """Above 1 MiB nothing changes for the caller, with quick numbers and without."""
    rows = np.arange(180_000, dtype=np.float32).reshape(-1, 2)
    for value in (rows, np.where(rows == 7, np.nan, rows)):
        body = gzip.compress(json.dumps({"inputs": [in_json("x", value)]}).encode(), 1)
        answer = await client.post(
            "/v2/models/doubler/infer", content=body, headers={"content-encoding": "gzip"}
        )
        assert answer.status_code == 200, answer.text
        got = read_answer(answer.content, answer.headers)["y"]
        np.testing.assert_array_equal(got, 2 * value, strict=True)


@pytest.mark.parametrize("road", ["/v1/models/doubler:predict", "/v2/models/doubler/infer"])
async def test_a_bomb_is_refused(client: httpx.AsyncClient, road: str) -> None:
    """A body that unpacks to more than is allowed is 413, whole or in pieces."""
    bomb = gzip.compress(bytes(65 << 20), 1)
    assert len(bomb) < 1 << 20

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(bomb), 50_000):
            yield bomb[start : start + 50_000]

    content: Any
    for content in (bomb, pieces()):
        answer = await client.post(road, content=content, headers={"content-encoding": "gzip"})
        assert answer.status_code == 413
        assert "unpacks to more than the 67108864 bytes" in answer.json()["error"]


async def test_damaged_compression(client: httpx.AsyncClient) -> None:
    """What is not the coding that it says is the caller's fault."""
    for content, words in ((b"{}", "not gzip"), (gzip.compress(b"{}")[:-1], "cut off")):
        answer = await post(client, "doubler", content, content_encoding="gzip")
        assert answer.status_code == 400
        assert words in answer.json()["error"]


async def raw_answer(
    client: httpx.AsyncClient, accept: str, rows: int, *, binary: bool
) -> tuple[bytes, httpx.Headers]:
    """Return an answer as it came over the wire, without the client's own unpacking."""
    value = np.zeros((rows, 2), np.float32)
    body, headers = body_of(
        {"inputs": [in_binary("x", value)], "outputs": asked("y", binary=binary)}, blob_of(value)
    )
    road = "/v2/models/doubler/infer"
    headers["accept-encoding"] = accept
    async with client.stream("POST", road, content=body, headers=headers) as answer:
        assert answer.status_code == 200
        return b"".join([part async for part in answer.aiter_raw()]), answer.headers


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("accept", "coding", "window"),
    [("gzip", "gzip", 31), ("deflate, gzip;q=0.5", "deflate", 15), ("br, identity", None, None)],
)
async def test_compressed_answers(
    client: httpx.AsyncClient, accept: str, coding: str | None, window: int | None, *, binary: bool
) -> None:
    """A large answer is packed as its caller prefers; the length of its JSON counts unpacked."""
    content, headers = await raw_answer(client, accept, 1000, binary=binary)
    assert headers.get("content-encoding") == coding
    assert headers["vary"] == "Accept-Encoding"
    assert int(headers["content-length"]) == len(content)
    plain = content if window is None else zlib.decompress(content, window)
    assert window is None or len(content) < len(plain)
    assert (LENGTH in headers) == binary
    assert read_answer(plain, headers)["y"].shape == (1000, 2)


async def test_what_is_never_compressed(client: httpx.AsyncClient) -> None:
    """Small answers gain nothing; errors, metadata and V1 have readers that do not unpack."""
    _, headers = await raw_answer(client, "gzip", 1, binary=True)
    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept-Encoding"
    accept = {"accept-encoding": "gzip"}
    many = {"instances": [[1, 2]] * 120}
    for answer in (
        await client.get("/openapi.json", headers=accept),
        await client.post("/v1/models/doubler:predict", json=many, headers=accept),
        await client.post(f"/v2/models/{'n' * 2000}/infer", json=UNASKED, headers=accept),
    ):
        assert len(answer.content) > 1024
        assert "content-encoding" not in answer.headers
