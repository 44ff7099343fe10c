"""TensorFlow Serving's dialect of V1 over real models: columns, versions, labels, metadata."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio
from onnx import TensorProto, helper

from service.app import create_app
from service.settings import Settings
from tests.support import models
from tests.support.apps import make_app
from tests.support.clients import client_of, serving
from tests.support.fakes import FakeModels

pytestmark = pytest.mark.asyncio(loop_scope="session")

RIGHT = [[0, 255], [0, 255]]
LEFT = [[255, 0], [255, 0]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fixed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a server whose models have no batch axis."""
    root = tmp_path_factory.mktemp("fixed")
    models.write_doubler(root / "three.onnx", axes=[3])
    models.write_doubler(root / "row.onnx", axes=[1, 2])
    models.write_model(
        root / "lifted.onnx",
        [helper.make_node("Unsqueeze", ["x", "axes"], ["y"])],
        inputs=[models.value("x", TensorProto.FLOAT, 2)],
        outputs=[models.value("y", TensorProto.FLOAT, 1, 2)],
        constants={"axes": np.asarray([0])},
    )
    async with serving(create_app(Settings(repository=root))) as connected:
        yield connected


async def predict(client: httpx.AsyncClient, model: str, **body: object) -> dict[str, object]:
    """Return the answer for a body of these members."""
    answer = await client.post(f"/v1/models/{model}:predict", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def refused(client: httpx.AsyncClient, model: str, **body: object) -> str:
    """Return the text with which a body is refused as wrong."""
    answer = await client.post(f"/v1/models/{model}:predict", json=body)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    return str(answer.json()["error"])


async def test_columns_come_back_as_columns(client: httpx.AsyncClient) -> None:
    """Several inputs by name answer several outputs by name, row for row."""
    columns = {"b": [[1, 1], [2, 2]], "a": [[3, 4], [5, 6]]}
    answer = await predict(client, "pair", inputs=columns)
    assert answer == {"outputs": {"sum": [[4, 5], [7, 8]], "difference": [[2, 3], [3, 4]]}}


async def test_the_only_output_comes_back_bare(client: httpx.AsyncClient) -> None:
    """With one output there is no name around its column."""
    assert await predict(client, "doubler", inputs={"x": [[1, 2], [3, 4]]}) == {
        "outputs": [[2, 4], [6, 8]]
    }


async def test_an_array_is_answered_in_both_dialects(client: httpx.AsyncClient) -> None:
    """KServe calls instances `inputs` too and reads predictions, TensorFlow Serving outputs."""
    assert await predict(client, "doubler", inputs=[[1, 2], [3, 4]]) == {
        "predictions": [[2, 4], [6, 8]],
        "outputs": [[2, 4], [6, 8]],
    }
    rows = [{"a": [3, 4], "b": [1, 1]}]
    assert await predict(client, "pair", inputs=rows) == {
        "predictions": [{"sum": [4, 5], "difference": [2, 3]}],
        "outputs": {"sum": [[4, 5]], "difference": [[2, 3]]},
    }


async def test_a_classifier_answers_columns_of_tensors(client: httpx.AsyncClient) -> None:
    """Scores stand in the order of the labels, so that every column is an array."""
    answer = await predict(client, "pictures", inputs={"image": [LEFT, RIGHT]})
    outputs = answer["outputs"]
    assert isinstance(outputs, dict)
    assert list(outputs) == ["label", "score", "scores"]
    assert outputs["label"] == ["left", "right"]
    assert [row.index(max(row)) for row in outputs["scores"]] == [0, 1]
    assert outputs["score"] == [max(row) for row in outputs["scores"]]


async def test_raw_inputs_stand_in_columns_too(client: httpx.AsyncClient) -> None:
    """Encoded pictures, texts and series of different lengths take the same pipeline as in rows."""
    coded = {"b64": base64.b64encode(models.png(RIGHT)).decode()}
    for model, name, column in (
        ("pictures", "image", [coded, LEFT]),
        ("texts", "tokens", ["one", "one two three four five"]),
        ("series", "values", [[[1, 2], [3, 4]], [[1, 1]]]),
    ):
        rows = (await predict(client, model, instances=column))["predictions"]
        both = await predict(client, model, inputs=column)
        assert both["predictions"] == rows
        assert await predict(client, model, inputs={name: column}) == {"outputs": both["outputs"]}


async def test_the_signature_may_be_named(client: httpx.AsyncClient) -> None:
    """The only signature there is may be named or left out; another one is refused."""
    for name in ("serving_default", "", None):
        answer = await predict(client, "doubler", signature_name=name, instances=[[1, 2]])
        assert answer == {"predictions": [[2, 4]]}
    text = await refused(client, "doubler", signature_name="regress", instances=[[1, 2]])
    assert text == "signature_name: the model has 'serving_default' only, got 'regress'"
    assert "an array" in await refused(client, "doubler", signature_name=[], instances=[[1, 2]])


async def test_rows_and_columns_at_once_are_refused(client: httpx.AsyncClient) -> None:
    """Nobody can say which of the two was meant."""
    text = await refused(client, "doubler", instances=[[1, 2]], inputs=[[1, 2]])
    assert text == "instances, inputs: give one of them, not both"


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"a": [[1, 2]], "b": [[1, 2], [3, 4]]}, "same number of rows, got {'a': 1, 'b': 2}"),
        ({"a": [[1, 2]], "c": [[1, 2]]}, "inputs.c: no such input; the model takes 'a', 'b'"),
        ({"a": 5, "b": [[1, 2]]}, "inputs.a: expected an array of rows, got the number 5"),
        ({"a": [], "b": []}, "inputs.a: expected an array of rows, got an empty array"),
        ({}, "inputs: empty, at least one is needed"),
        ([], "inputs: empty, at least one is needed"),
        (7, "inputs: expected an object with 'a', 'b', got the number 7"),
        (None, "inputs: expected an object with 'a', 'b', got null"),
        ({"a": [[1, 2]]}, "input 'b'"),
        ({"a": [[1, 2]], "b": [["x", 2]]}, "input 'b'"),
    ],
)
async def test_wrong_columns_are_named(
    client: httpx.AsyncClient, inputs: object, text: str
) -> None:
    """The text names the column and what was seen of it."""
    assert text in await refused(client, "pair", inputs=inputs)


async def test_a_model_without_rows_takes_whole_tensors(fixed: httpx.AsyncClient) -> None:
    """A column is then the tensor itself, and so is the answer; rows of it are instances."""
    assert await predict(fixed, "three", inputs={"x": [1, 2, 3]}) == {"outputs": [2, 4, 6]}
    assert await predict(fixed, "three", inputs=[1, 2, 3]) == {"outputs": [2, 4, 6]}
    assert await predict(fixed, "three", inputs=[[1, 2, 3], [4, 5, 6]]) == {
        "predictions": [[2, 4, 6], [8, 10, 12]],
        "outputs": [[2, 4, 6], [8, 10, 12]],
    }
    assert await predict(fixed, "lifted", inputs={"x": [1, 2]}) == {"outputs": [[1, 2]]}
    assert await predict(fixed, "row", inputs={"x": [[1, 2], [3, 4]]}) == {
        "outputs": [[2, 4], [6, 8]]
    }


async def test_version_0_is_the_latest(client: httpx.AsyncClient) -> None:
    """TensorFlow Serving's clients write 0 where they do not mind, on every road."""
    path = "/v1/models/doubler/versions/0"
    answer = await client.post(f"{path}:predict", json={"instances": [[1, 2]]})
    assert answer.json() == {"predictions": [[2, 4]]}
    assert (await client.get(path)).json()["model_version_status"][0]["version"] == "1"
    assert (await client.get(f"{path}/metadata")).json()["model_spec"]["version"] == "1"
    assert (await client.get("/v1/models/doubler/versions/2")).status_code == 404


async def test_a_label_leads_to_its_version(repository: Path) -> None:
    """Every road takes a label in place of a version, and an unknown one is not found."""
    labels = {("tiny", "stable"): 1}
    async with client_of(make_app(models=FakeModels(labels=labels))) as client:
        path = "/v1/models/tiny/labels/{}"
        answer = await client.post(path.format("stable:predict"), json={"instances": [1]})
        assert answer.json() == {"predictions": [1]}
        status = await client.get(path.format("stable"))
        assert [v["version"] for v in status.json()["model_version_status"]] == ["1"]
        assert (await client.get(path.format("stable/info"))).json()["version"] == 1
        unknown = await client.get(path.format("canary"))
        assert unknown.status_code == 404
        assert "'tiny' label 'canary'" in unknown.json()["error"]
        wrong = await client.get(path.format("stable:predict"))
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    async with serving(create_app(Settings(repository=repository / "doubler.onnx"))) as client:
        assert (await client.get("/v1/models/doubler/labels/any/metadata")).status_code == 404
        assert (await client.get("/v1/models/nobody/labels/any/metadata")).status_code == 404


async def test_metadata_is_a_signature(client: httpx.AsyncClient) -> None:
    """Types and dimensions in TensorFlow's words, found under either spelling of its messages."""
    content = (await client.get("/v1/models/pair/metadata")).json()
    assert content["model_spec"] == {"name": "pair", "signature_name": "", "version": "1"}
    assert content["modelSpec"] == content["model_spec"]
    signatures = content["metadata"]["signature_def"]
    assert signatures["signatureDef"] == signatures["signature_def"]
    signature = signatures["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert list(signature["inputs"]) == ["a", "b"]
    assert list(signature["outputs"]) == ["sum", "difference"]
    column = signature["inputs"]["a"]
    assert (column["name"], column["dtype"]) == ("a", "DT_INT32")
    assert column["tensorShape"] == column["tensor_shape"]
    assert column["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
        "unknown_rank": False,
    }


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        (
            "pictures",
            {"image": ("DT_UINT8", [-1, 2, 2, 1])},
            {
                "label": ("DT_STRING", [-1]),
                "score": ("DT_FLOAT", [-1]),
                "scores": ("DT_FLOAT", [-1, 2]),
            },
        ),
        ("series", {"values": ("DT_FLOAT", [-1, -1, 2])}, {"answer": ("DT_FLOAT", [-1, 1])}),
        ("words", {"x": ("DT_STRING", [-1])}, {"y": ("DT_STRING", [-1])}),
        ("half", {"x": ("DT_HALF", [-1, 2])}, {"y": ("DT_HALF", [-1, 2])}),
    ],
)
async def test_metadata_tells_what_predict_takes_and_answers(
    client: httpx.AsyncClient,
    model: str,
    inputs: dict[str, object],
    outputs: dict[str, object],
) -> None:
    """The signature is that of the whole pipeline, raw input to answer, and not of the graph."""
    content = (await client.get(f"/v1/models/{model}/versions/1/metadata")).json()
    signature = content["metadata"]["signature_def"]["signature_def"]["serving_default"]
    found = {
        side: {
            name: (info["dtype"], [int(dim["size"]) for dim in info["tensor_shape"]["dim"]])
            for name, info in signature[side].items()
        }
        for side in ("inputs", "outputs")
    }
    assert found == {"inputs": inputs, "outputs": outputs}


async def test_a_model_that_failed_tells_no_columns(client: httpx.AsyncClient) -> None:
    """Its signature is not known, so it is 503 with the reason on both roads."""
    answers = [
        await client.get("/v1/models/broken/metadata"),
        await client.post("/v1/models/broken:predict", json={"inputs": {"x": [1]}}),
    ]
    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "FAILED" in answer.json()["error"]
