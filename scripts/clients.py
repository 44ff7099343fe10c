"""What clients that others wrote do with a running server: clients.py ADDRESS.

Runs in an environment that holds the clients and nothing of onnxport.
"""

from __future__ import annotations

import asyncio
import base64
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from open_inference.openapi.client import OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError
from open_inference.openapi.types import InferenceRequest, RequestInput

NUMBERS = {
    "BOOL": bool,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
A, B = np.array([[5, 7]], np.int32), np.array([[1, 2]], np.int32)


def main(address: str) -> None:
    """Run every client; an exception of any of them is a failure."""
    print(f"tritonclient: {with_triton(address.removeprefix('http://'))} answers")
    print(
        f"tritonclient aio: {asyncio.run(with_triton_aio(address.removeprefix('http://')))} answers"
    )
    print(f"kserve: {asyncio.run(with_kserve(address))} answers")
    print(f"open-inference-openapi: {with_openapi(address)} answers")


def values() -> Iterator[tuple[str, np.ndarray]]:
    """Yield a tensor [3, 2] of every datatype."""
    for datatype, dtype in NUMBERS.items():
        yield datatype, np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    yield "BYTES", np.array([["", "a"], ["é", "日本"], ["x" * 300, "0"]], object)


def same(found: np.ndarray, sent: np.ndarray) -> None:
    """Compare an answer with what was sent; texts come back as bytes."""
    if sent.dtype == object:
        got = [t.decode() if isinstance(t, bytes) else t for t in found.reshape(-1)]
        assert got == list(sent.reshape(-1)), (got, sent)
    else:
        assert found.dtype == sent.dtype, (found.dtype, sent.dtype)
        assert np.array_equal(found, sent), (found, sent)


def forms(datatype: str) -> list[tuple[bool, str | None, str | None]]:
    """Return binary or not, compression of the request, compression of the answer."""
    binary = [(True, None, None), (True, "gzip", "deflate"), (True, "deflate", "gzip")]
    return binary if datatype == "FP16" else [*binary, (False, None, None), (False, "gzip", "gzip")]


def triton_input(kind: Any, name: str, datatype: str, value: np.ndarray, *, binary: bool) -> Any:
    """Return one input of Triton's client, sync or aio."""
    made = kind(name, list(value.shape), datatype)
    made.set_data_from_numpy(value, binary_data=binary)
    return made


def with_triton(address: str) -> int:
    """Ask everything that Triton's client can ask."""
    client, count = triton.InferenceServerClient(address), 0
    assert client.is_server_live()
    assert client.is_server_ready()
    for datatype, value in values():
        for binary, sent, wanted in forms(datatype):
            tensor = triton_input(triton.InferInput, "x", datatype, value, binary=binary)
            output = triton.InferRequestedOutput("y", binary_data=binary)
            result = client.infer(
                f"same-{datatype}",
                [tensor],
                outputs=[output],
                request_id="7",
                timeout=5_000_000,
                priority=1,
                request_compression_algorithm=sent,
                response_compression_algorithm=wanted,
            )
            assert result.get_response()["id"] == "7"
            same(result.as_numpy("y"), value)
            count += 1
    return count + with_tritons_extensions(client)


def with_tritons_extensions(client: Any) -> int:
    """Ask for classes, metadata, configuration, statistics and the repository."""
    pictures = np.zeros((1, 1, 2, 2), np.float32)
    pictures[..., 1] = 1
    tensor = triton_input(triton.InferInput, "image", "FP32", pictures, binary=True)
    classes = triton.InferRequestedOutput("scores", class_count=1)
    (best,) = client.infer("pictures", [tensor], outputs=[classes]).as_numpy("scores").reshape(-1)
    assert best.decode().endswith(":1:right"), best
    metadata = client.get_model_metadata("pair")
    assert [one["name"] for one in metadata["outputs"]] == ["sum", "difference"]
    assert client.get_model_config("pair")["platform"] == "onnxruntime_onnx"
    assert {"statistics", "model_repository"} <= set(client.get_server_metadata()["extensions"])
    stats = client.get_inference_statistics("pictures")["model_stats"][0]
    assert stats["inference_count"] >= 1, stats
    states = {one["name"]: one.get("state") for one in client.get_model_repository_index()}
    assert states["pair"] == "READY", states
    client.unload_model("pair")
    assert not client.is_model_ready("pair")
    client.load_model("pair")
    assert client.is_model_ready("pair")
    for call in (lambda: client.load_model("nobody"), lambda: client.get_model_metadata("nobody")):
        try:
            call()
        except triton.InferenceServerException as error:
            assert "nobody" in str(error), error
        else:
            raise AssertionError("a model that is not there was found")
    return 12


async def with_triton_aio(address: str) -> int:
    """Ask for every datatype without blocking."""
    count = 0
    async with triton_aio.InferenceServerClient(address) as client:
        for datatype, value in values():
            for binary, sent, wanted in forms(datatype):
                tensor = triton_input(triton_aio.InferInput, "x", datatype, value, binary=binary)
                output = triton_aio.InferRequestedOutput("y", binary_data=binary)
                result = await client.infer(
                    f"same-{datatype}",
                    [tensor],
                    outputs=[output],
                    request_compression_algorithm=sent,
                    response_compression_algorithm=wanted,
                )
                same(result.as_numpy("y"), value)
                count += 1
    return count


async def with_kserve(address: str) -> int:
    """Ask V1 and V2 with KServe's client."""
    count = 0
    one, two = (InferenceRESTClient(RESTConfig(protocol=p)) for p in ("v1", "v2"))
    picture = {"b64": base64.b64encode(png([[0, 255], [0, 255]])).decode()}
    for model, instance, label in (("pictures", picture, "right"), ("texts", "one two", "short")):
        answer = await one.infer(address, {"instances": [instance]}, model_name=model)
        assert answer["predictions"][0]["label"] == label, answer
        count += 1
    series = await one.infer(
        address, {"instances": [[[1, 2]], [[1, 1], [3, 3]]]}, model_name="series"
    )
    assert len(series["predictions"]) == 2
    assert await one.is_model_ready(address, "texts")
    assert await two.is_server_live(address)
    assert await two.is_server_ready(address)
    assert await two.is_model_ready(address, "texts")
    for binary in (True, False):
        inputs = [InferInput(name, [1, 2], "INT32") for name in ("a", "b")]
        for tensor, value in zip(inputs, (A, B), strict=True):
            tensor.set_data_from_numpy(value, binary_data=binary)
        answer = await two.infer(address, InferRequest("pair", inputs), model_name="pair")
        found = {output.name: output.as_numpy() for output in answer.outputs}
        same(found["sum"].astype(np.int32), A + B)
        count += 1
    return count + 5


def with_openapi(address: str) -> int:
    """Ask with the client that is generated from the protocol's own OpenAPI file.

    Its checks return nothing, and raise where the answer is not yes.
    """
    client = OpenInferenceClient(base_url=address)
    client.check_server_liveness()
    client.check_server_readiness()
    client.check_model_readiness("pair")
    assert client.read_server_metadata().name == "onnxport"
    assert client.read_model_metadata("pair").name == "pair"
    inputs = [
        RequestInput(name=name, shape=[1, 2], datatype="INT32", data=value.tolist())
        for name, value in (("a", A), ("b", B))
    ]
    answer = client.model_infer("pair", request=InferenceRequest(inputs=inputs))
    # The generated types wrap a list of numbers, which are floats to them.
    found = {output.name: output.data.__root__ for output in answer.outputs}
    assert found == {"sum": [6, 9], "difference": [4, 5]}, found
    try:
        client.read_model_metadata("nobody")
    except ApiError as error:
        assert error.status_code == 404, error
        return 7
    raise AssertionError("a model that is not there was found")


def png(pixels: list[list[int]]) -> bytes:
    """Return a grey PNG file, made by hand: the clients' environment holds no imaging library."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", len(pixels[0]), len(pixels), 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(row) for row in pixels)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


if __name__ == "__main__":
    main(sys.argv[1])
