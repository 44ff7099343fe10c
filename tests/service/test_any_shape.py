"""Random types and shapes through the whole server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from service.app import create_app
from service.settings import Settings
from service.tensors import DATATYPES
from tests.support.clients import serving
from tests.support.models import Axis, write_identity

KINDS = {"FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}
WIRES = ("BOOL", "UINT8", "INT8", "UINT16", "INT32", "UINT64", "INT64", "FP32", "FP64", "BYTES")
AXES = st.lists(st.sampled_from((0, 1, 2, 3, "n", "k")), max_size=4)


def values(wire: str, shape: Sequence[int], seed: int) -> Any:
    """Return random values as nested lists, none of which JSON would round."""
    random = np.random.default_rng(seed)
    kind = DATATYPES[wire].numpy
    if kind.hasobject:
        return random.choice(np.asarray(["", "a", "é\n", "\0"], object), shape).tolist()
    if kind.kind == "f":
        return random.normal(size=shape).astype(np.float32).astype(kind).tolist()
    return random.integers(0, 2 if kind.kind == "b" else 100, shape).astype(kind).tolist()


async def asked(model: Path, wire: str, shape: Sequence[int], data: Any) -> list[httpx.Response]:
    """Return the answers of V2, V1 and model-info to one tensor."""
    tensor = {"name": "x", "datatype": wire, "shape": shape, "data": np.ravel(data).tolist()}
    async with serving(create_app(Settings(repository=model))) as client:
        return [
            await client.post("/v2/models/m/infer", json={"inputs": [tensor]}),
            await client.post("/v1/models/m:predict", json={"instances": data}),
            await client.get("/v1/models/m/info"),
        ]


@settings(max_examples=30, deadline=None)
@given(wire=st.sampled_from(WIRES), axes=AXES, free=st.integers(1, 3), seed=st.integers(0, 99))
def test_what_goes_in_comes_out(wire: str, axes: list[Axis], free: int, seed: int) -> None:
    """V2 returns every tensor unchanged; V1 every row where the first axis is free.

    The first axis alone decides whether rows may be joined, unless its name comes back further on.
    """
    shape = [axis if isinstance(axis, int) else free for axis in axes]
    data = values(wire, shape, seed)
    with TemporaryDirectory() as folder:
        number = TensorProto.DataType.Value(KINDS.get(wire, wire))
        model = write_identity(Path(folder) / "m.onnx", number, axes)
        v2, v1, info = asyncio.run(asked(model, wire, shape, data))
    assert v2.status_code == 200, v2.text
    (output,) = v2.json()["outputs"]
    assert (output["datatype"], output["shape"]) == (wire, shape)
    kind = DATATYPES[wire].numpy
    assert np.asarray(output["data"], kind).tolist() == np.ravel(data).tolist()
    batching = info.json()["batching"]
    if not (axes and isinstance(axes[0], str)) or axes[0] in axes[1:]:
        assert batching["rows_independent"] is False
        return
    assert v1.status_code == 200, v1.text
    assert np.asarray(v1.json()["predictions"], kind).tolist() == data
    assert batching["rows_independent"] or "nothing could be seen" in batching["why"]


def test_every_size_of_two_named_axes() -> None:
    """Axes of one name have one size, whatever that is; other sizes are refused."""

    async def run(model: Path) -> dict[tuple[int, ...], int]:
        async with serving(create_app(Settings(repository=model))) as client:
            statuses = {}
            for sizes in itertools.product(range(3), repeat=2):
                data = [0] * (sizes[0] * sizes[1])
                tensor = {"name": "x", "datatype": "FP32", "shape": sizes, "data": data}
                answer = await client.post("/v2/models/m/infer", json={"inputs": [tensor]})
                statuses[sizes] = answer.status_code
            return statuses

    with TemporaryDirectory() as folder:
        model = write_identity(Path(folder) / "m.onnx", TensorProto.FLOAT, ["n", "n"])
        statuses = asyncio.run(run(model))
    assert {sizes for sizes, status in statuses.items() if status == 200} == {
        (0, 0),
        (1, 1),
        (2, 2),
    }
    assert set(statuses.values()) == {200, 400}
