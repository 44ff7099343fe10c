"""Configuration and statistics: what Triton's tools read before and after they measure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from service.batcher import BatchPolicy
from service.lifecycle import ModelView, State
from service.serving import All, Latest, ServingRules, Specific, VersionPolicy
from service.tensors import TensorSpec
from service.web.modelconfig import config_of
from tests.support.apps import make_app
from tests.support.clients import client_of
from tests.support.fakes import FakeModels, view

pytestmark = pytest.mark.asyncio(loop_scope="session")

BATCHED = BatchPolicy(max_rows=16, queue_rows=64, concurrency=3, batchable=True)
OPENED = replace(view(), batching=BATCHED, provider="cpu")


def message(opened: ModelView) -> dict[str, Any]:
    """Return the configuration as a reader gets it."""
    return dict(orjson.loads(orjson.dumps(config_of(opened))))


async def test_a_batched_model() -> None:
    """The batch axis is in max_batch_size instead of the dims; runs and queue are described."""
    config = message(OPENED)
    assert config["max_batch_size"] == 16
    assert config["input"] == [
        {
            "name": "x",
            "data_type": "TYPE_FP32",
            "format": "FORMAT_NONE",
            "dims": [2],
            "is_shape_tensor": False,
            "optional": False,
        }
    ]
    assert config["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 64
    (instances,) = config["instance_group"]
    assert (instances["kind"], instances["count"]) == ("KIND_CPU", 3)


async def test_a_model_whose_rows_stay_alone() -> None:
    """Its dims are whole and nothing says that it is batched."""
    config = message(replace(OPENED, batching=replace(BATCHED, batchable=False)))
    assert config["max_batch_size"] == 0
    assert "dynamic_batching" not in config
    assert [tensor["dims"] for tensor in config["input"]] == [[-1, 2]]


async def test_shapes_and_types_that_the_message_writes_otherwise() -> None:
    """A text is a TYPE_STRING, and a tensor of nothing but rows is reshaped from one element."""
    specs = (TensorSpec("words", "BYTES", ("n",)), TensorSpec("ids", "INT64", ("n", "t", 3)))
    config = message(replace(OPENED, inputs=specs, provider="cuda"))
    words, ids = config["input"]
    assert (words["data_type"], words["dims"]) == ("TYPE_STRING", [1])
    assert words["reshape"] == {"shape": []}
    assert (ids["data_type"], ids["dims"]) == ("TYPE_INT64", [-1, 3])
    assert "reshape" not in ids
    (instances,) = config["instance_group"]
    assert instances["kind"] == "KIND_GPU"


@pytest.mark.parametrize(
    ("policy", "written"),
    [
        (None, {"latest": {"num_versions": 1}}),
        (Latest(3), {"latest": {"num_versions": 3}}),
        (All(), {"all": {}}),
        (Specific((2, 5)), {"specific": {"versions": [2, 5]}}),
    ],
)
async def test_the_version_policy(policy: VersionPolicy | None, written: object) -> None:
    """What is in force, the default included, and the labels beside it."""
    config = message(replace(OPENED, rules=ServingRules(policy, {"stable": 5})))
    assert config["version_policy"] == written
    assert config["labels"] == {"stable": 5}


async def test_the_config_of_real_models(client: httpx.AsyncClient) -> None:
    """A bundle or a bare file whose rows are independent is batched; both name the backend."""
    bundle = (await client.get("/v2/models/series/config")).json()
    assert (bundle["max_batch_size"], bundle["platform"]) == (32, "onnxruntime_onnx")
    assert [tensor["dims"] for tensor in bundle["input"]] == [[-1, 2], [1]]
    bare = (await client.get("/v2/models/pair/versions/1/config")).json()
    assert (bare["max_batch_size"], bare["backend"]) == (32, "onnxruntime")
    assert [tensor["name"] for tensor in bare["output"]] == ["sum", "difference"]


@pytest.mark.parametrize("what", ["config", "stats"])
async def test_models_that_do_not_answer(client: httpx.AsyncClient, what: str) -> None:
    """Unknown ones are 404, failed ones 503 with the reason."""
    for path in ("stranger", "stats", "pair/versions/2"):
        answer = await client.get(f"/v2/models/{path}/{what}")
        assert answer.status_code == 404
        assert "Request for unknown model" in answer.json()["error"]
    answer = await client.get(f"/v2/models/broken/{what}")
    assert answer.status_code == 503
    assert "FAILED" in answer.json()["error"]


async def one_row(client: httpx.AsyncClient, *, rows: int = 1, width: int = 2) -> int:
    """Ask the sum and difference for so many rows and return the status."""
    data = [[1] * width] * rows
    row = {"datatype": "INT32", "shape": [rows, width], "data": data}
    content = {"inputs": [{"name": "a", **row}, {"name": "b", **row}]}
    return (await client.post("/v2/models/pair/infer", json=content)).status_code


async def stats_of(client: httpx.AsyncClient, path: str = "pair/stats") -> dict[str, Any]:
    """Return the statistics of the one version that a path means."""
    (found,) = (await client.get(f"/v2/models/{path}")).json()["model_stats"]
    assert (found["name"], found["version"]) == ("pair", "1")
    return dict(found)


async def test_statistics_grow_with_every_request(client: httpx.AsyncClient) -> None:
    """A reader takes the difference of two answers: rows, runs, successes and failures."""
    before = await stats_of(client)
    assert await one_row(client, rows=3) == 200
    assert await one_row(client, rows=1) == 200
    assert await one_row(client, width=3) == 400
    after = await stats_of(client, "pair/versions/1/stats")
    assert set(after) == {
        "name", "version", "last_inference", "inference_count", "execution_count",
        "inference_stats", "response_stats", "batch_stats", "memory_usage",
    }  # fmt: skip
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 2
    was, now = before["inference_stats"], after["inference_stats"]
    assert now["success"]["count"] - was["success"]["count"] == 2
    assert now["fail"]["count"] - was["fail"]["count"] == 1
    assert now["compute_infer"]["ns"] > was["compute_infer"]["ns"]
    assert {3, 1} <= {batch["batch_size"] for batch in after["batch_stats"]}


async def test_statistics_of_all_models(client: httpx.AsyncClient) -> None:
    """Every ready version is listed once, used or not; a failed one is not."""
    stats = (await client.get("/v2/models/stats")).json()["model_stats"]
    names = [one["name"] for one in stats]
    assert names == sorted(set(names))
    assert {"pair", "texts"} <= set(names)
    assert "broken" not in names


async def test_statistics_of_several_versions() -> None:
    """Without a version all ready ones are listed in order, with one only that."""
    known = [replace(view(), version=version) for version in (1, 2, 3)]
    known[1] = replace(known[1], state=State.DRAINING)
    async with client_of(make_app(models=FakeModels(known))) as client:
        for path, versions in (("tiny/stats", ["1", "3"]), ("tiny/versions/3/stats", ["3"])):
            stats = (await client.get(f"/v2/models/{path}")).json()["model_stats"]
            assert [one["version"] for one in stats] == versions
