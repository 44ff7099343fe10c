"""The same tensors by every road of infer give what ONNX Runtime itself gives."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from service.app import create_app
from service.settings import Settings
from service.tensors import DATATYPES, Tensor
from tests.support.clients import serving
from tests.support.infer import asked, blob_of, body_of, in_binary, in_json, read_answer
from tests.support.models import value, write_model
from tests.support.strategies import tensors

pytestmark = pytest.mark.asyncio(loop_scope="session")

KINDS = {
    "BOOL": TensorProto.BOOL,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=5)


def kind_of(datatype: str) -> int:
    """Return ONNX's number of a datatype."""
    found = KINDS.get(datatype)
    return getattr(TensorProto, datatype) if found is None else found


def write_turner(path: Path, datatype: str) -> Path:
    """Write same = x and turned = x transposed, which every type can be asked for."""
    kind = kind_of(datatype)
    return write_model(
        path,
        [
            helper.make_node("Identity", ["x"], ["same"]),
            helper.make_node("Transpose", ["x"], ["turned"]),
        ],
        inputs=[value("x", kind, "n", "m")],
        outputs=[value("same", kind, "n", "m"), value("turned", kind, "m", "n")],
    )


@dataclass(frozen=True, slots=True)
class Models:
    """One model for each datatype, on disk and in a session of ONNX Runtime's own."""

    repository: Path
    sessions: Mapping[str, ort.InferenceSession]

    def answer(self, datatype: str, sent: Tensor) -> dict[str, Tensor]:
        """Return what ONNX Runtime answers; bfloat16 goes through it as bits."""
        session = self.sessions[datatype]
        if datatype != "BF16":
            same, turned = session.run(["same", "turned"], {"x": sent})
            return {"same": same, "turned": turned}
        bits = self.sessions["UINT16"].run(["same", "turned"], {"x": sent.view(np.uint16)})
        return {
            name: tensor.view(sent.dtype)
            for name, tensor in zip(("same", "turned"), bits, strict=True)
        }


@pytest.fixture(scope="session")
def turners(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Return the models."""
    root = tmp_path_factory.mktemp("turners")
    files = {name: write_turner(root / f"{name}.onnx", name) for name in DATATYPES}
    return Models(root, {name: ort.InferenceSession(str(file)) for name, file in files.items()})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(turners: Models) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a server over the models."""
    async with serving(create_app(Settings(repository=turners.repository))) as connected:
        yield connected


def requests(datatype: str, sent: Tensor) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Yield the same call in every form that the datatype has."""
    both = asked("same") + asked("turned", binary=datatype in ("FP16", "BF16"))
    yield body_of({"inputs": [in_binary("x", sent)], "outputs": both}, blob_of(sent))
    everything = {"binary_data_output": True}
    yield body_of({"inputs": [in_binary("x", sent)], "parameters": everything}, blob_of(sent))
    if datatype in ("FP16", "BF16"):
        return
    for nested in (True, False):
        inputs = [in_json("x", sent, nested=nested)]
        for more in ({}, {"outputs": both}, {"pad": " " * 1024}):
            yield json.dumps({"inputs": inputs, **more}).encode(), {}


def packed(body: bytes, coding: str) -> tuple[bytes, dict[str, str]]:
    """Return a body in a coding, with the header that says so."""
    if coding == "identity":
        return body, {}
    return (gzip.compress if coding == "gzip" else zlib.compress)(body), {
        "content-encoding": coding
    }


def same_numbers(datatype: str, got: Tensor, expected: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, or NaN where JSON has one word for all others."""
    if datatype == "BYTES":
        texts = [t.decode() if isinstance(t, bytes) else t for t in got.reshape(-1).tolist()]
        return bool(got.shape == expected.shape and texts == expected.reshape(-1).tolist())
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return False
    if got.tobytes() == expected.tobytes():
        return True
    finite = np.isfinite(expected)
    return bool(
        np.isnan(got[~finite]).all() and got[finite].tobytes() == expected[finite].tobytes()
    )


@settings(max_examples=50)
@given(st.data(), st.sampled_from(sorted(DATATYPES)))
async def test_every_form_of_a_call_has_one_answer(
    server: httpx.AsyncClient, turners: Models, data: st.DataObject, datatype: str
) -> None:
    """Binary, flat and nested JSON, packed and cut anywhere, answer as ONNX Runtime does."""
    sent = data.draw(tensors(datatype, shapes=SHAPES))
    expected = turners.answer(datatype, sent)
    for body, headers in requests(datatype, sent):
        content, coding = packed(body, data.draw(st.sampled_from(["identity", "gzip", "deflate"])))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=3)))

        async def pieces(content: bytes = content, cuts: list[int] = cuts) -> AsyncIterator[bytes]:
            for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
                yield content[start:end]

        stream: Any = pieces()
        answer = await server.post(
            f"/v2/models/{datatype}/infer", content=stream, headers={**headers, **coding}
        )
        assert answer.status_code == 200, answer.text
        found = read_answer(answer.content, answer.headers)
        assert list(found) == ["same", "turned"]
        for name, tensor in found.items():
            assert same_numbers(datatype, tensor, expected[name]), (name, tensor, expected[name])


@settings(max_examples=50)
@given(st.data(), st.sampled_from(sorted(DATATYPES)))
async def test_binary_is_exact(
    server: httpx.AsyncClient, turners: Models, data: st.DataObject, datatype: str
) -> None:
    """In binary every bit of every answer is ONNX Runtime's, NaN's included."""
    sent = data.draw(tensors(datatype, shapes=SHAPES))
    expected = turners.answer(datatype, sent)
    call = {"inputs": [in_binary("x", sent)], "outputs": asked("same", "turned")}
    body, headers = body_of(call, blob_of(sent))
    answer = await server.post(f"/v2/models/{datatype}/infer", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    for name, tensor in read_answer(answer.content, answer.headers).items():
        assert blob_of(tensor) == blob_of(np.ascontiguousarray(expected[name]))
