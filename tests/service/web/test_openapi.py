"""The OpenAPI document: valid, with every model that answers, its example and lines that work."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from onnx import TensorProto
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.app import create_app
from service.client import Client
from service.contract import Contract, InputContract, OutputContract, TensorPipeline
from service.registry import ModelView, State
from service.settings import Settings
from service.showcase import Showcase, ShownTensor
from service.tensors import TensorSpec
from service.web.schemas import array_schema, element_schema, tensor_schema
from tests.support import models
from tests.support.apps import make_app
from tests.support.clients import BASE_URL, client_of
from tests.support.fakes import FakeModels, view
from tests.support.remote import running

pytestmark = pytest.mark.asyncio(loop_scope="session")
NAMES = ["bytes8", "divider", "doubler", "embedding", "half", "pair", "pictures", "series", "texts"]


async def document_of(client: httpx.AsyncClient) -> Any:
    """Return the document."""
    answer = await client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and operation of every model's own roads."""
    for about in document["x-models"]:
        for path in (about["predict"], about["infer"]):
            yield path, document["paths"][path]["post"]


async def test_the_document_is_valid_openapi(client: httpx.AsyncClient) -> None:
    """The validator of the specification finds nothing, and no two operations share an id."""
    document = await document_of(client)
    ids = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(ids) == len(set(ids))
    assert document["openapi"].startswith("3.1")
    # The validator takes a second for ten paths; these four are of all kinds.
    for about in document["x-models"]:
        if about["name"] not in ("pair", "pictures", "series", "texts"):
            del document["paths"][about["predict"]], document["paths"][about["infer"]]
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


async def test_every_model_that_answers_is_described(client: httpx.AsyncClient) -> None:
    """By its name, without those that could not be loaded, and with the ways a call may fail."""
    document = await document_of(client)
    named = [about["name"] for about in document["x-models"]]
    assert set(NAMES) <= set(named)
    assert "broken" not in named
    assert {tag["name"] for tag in document["tags"]} == {f"model {name}" for name in named}
    for _, operation in operations(document):
        assert {"200", "400", "404", "503", "504"} <= operation["responses"].keys()
    pictures = next(about for about in document["x-models"] if about["name"] == "pictures")
    assert pictures["summary"] == "Classifies pictures into 2 labels."
    assert "2 x 2, grey" in pictures["input"]
    assert pictures["labels"] == ["left", "right"]
    notes = {about["name"]: about["note"] for about in document["x-models"]}
    assert (notes["texts"], notes["pair"][:33]) == ("", "This model has recorded no inputs")
    assert pictures["inputs"] == [{"name": "image", "tensor": "FP32 [batch, 1, 2, 2]"}]


async def test_examples_fit_their_schemas_and_are_answered_as_shown(
    client: httpx.AsyncClient,
) -> None:
    """A request is sent as it stands; the answer fits the schema and is the one that is shown."""
    sent = 0
    for path, operation in operations(await document_of(client)):
        request = operation["requestBody"]["content"]["application/json"]
        answer = operation["responses"]["200"]["content"]["application/json"]
        if "example" not in request.get("examples", {}):
            continue
        body = request["examples"]["example"]["value"]
        OAS31Validator(request["schema"]).validate(body)
        reply = await client.post(path, json=body)
        assert reply.status_code == 200, (path, reply.text)
        OAS31Validator(answer["schema"]).validate(reply.json())
        sent += 1
        if "examples" in answer:
            shown = answer["examples"]["example"]["value"]
            OAS31Validator(answer["schema"]).validate(shown)
            assert near(reply.json(), shown), path
    assert sent >= 2 * len(NAMES) - 1


def near(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same, numbers within what float32 can tell."""
    if isinstance(left, dict):
        same: bool = left.keys() == right.keys()
        return same and all(near(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(near, left, right))
    if isinstance(left, float):
        return bool(np.isclose(left, right, rtol=1e-4, atol=1e-5))
    return bool(left == right)


async def test_bad_requests_do_not_fit(client: httpx.AsyncClient) -> None:
    """The schemas know bounds, shapes, names and labels."""
    paths = (await document_of(client))["paths"]

    def fits(path: str, body: object) -> bool:
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        return bool(OAS31Validator(content["schema"]).is_valid(body))

    def tokens(*, data: list[int], name: str = "tokens", shape: list[int] | None = None) -> object:
        tensor = {"name": name, "datatype": "INT64", "shape": shape or [1, 2], "data": data}
        return {"inputs": [tensor]}

    infer, predict = "/v2/models/texts/infer", "/v1/models/{}:predict"
    assert fits(infer, tokens(data=[0, 129]))
    assert not fits(infer, tokens(data=[0, 130]))
    assert not fits(infer, tokens(data=[0, 1], name="other"))
    assert not fits(infer, tokens(data=[0, 1], shape=[2]))
    assert not fits(infer, {"inputs": []})
    assert fits(predict.format("series"), {"instances": [[[1, 2]] * 8]})
    assert not fits(predict.format("series"), {"instances": [[[1, 2]] * 9]})
    assert not fits(predict.format("series"), {"instances": [[[1]]]})
    assert fits(predict.format("pictures"), {"instances": [[[0, 255]], [[[1], [2]]]]})
    assert not fits(predict.format("pictures"), {"instances": [[[0, 256]]]})
    assert not fits(predict.format("pictures"), {"instances": ["text"]})
    answer = paths["/v1/models/texts:predict"]["post"]["responses"]["200"]
    labels = answer["content"]["application/json"]["schema"]["properties"]["predictions"]
    assert labels["items"]["properties"]["label"] == {"enum": ["short", "long"]}


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        (TensorSpec("x", "UINT8", ()), [0, 255], [-1, 256, 1.5, "1", None]),
        (TensorSpec("x", "INT64", (), minimum=0.5, maximum=2.5), [1, 2], [0, 3]),
        (TensorSpec("x", "FP32", (), finite=True), [1.5, -3], [None, "1", True]),
        (TensorSpec("x", "FP32", (), maximum=1.0), [None, 1.0], [1.5]),
        (TensorSpec("x", "BOOL", ()), [True], [1]),
        (TensorSpec("x", "BYTES", ()), ["a"], [1]),
        (TensorSpec("x", "seq(tensor(float))", ()), [1, "a", {}], []),
    ],
)
async def test_elements(spec: TensorSpec, good: list[object], bad: list[object]) -> None:
    """Each datatype with its range; what is no plain tensor may be anything."""
    schema = OAS31Validator(element_schema(spec))
    assert all(map(schema.is_valid, good))
    assert not any(map(schema.is_valid, bad))


async def test_shapes() -> None:
    """Rows have exact axes, a shape has its rank, and an unknown rank is free."""
    nested = OAS31Validator(array_schema((-1, 2), {"type": "integer"}))
    assert nested.is_valid([[1, 2]] * 3)
    assert not nested.is_valid([[1, 2, 3]])
    assert array_schema((), {"type": "integer"}) == {"type": "integer"}
    assert array_schema(("...",), {"type": "integer"}) == {}
    for shape, good, bad in [
        (("n", 2), [5, 2], [5, 2, 1]),
        ((), [], [1]),
        (("...",), [1, 2, 3], [-1]),
    ]:
        of_shape = tensor_schema(TensorSpec("x", "FP32", shape))["properties"]["shape"]
        assert OAS31Validator(of_shape).is_valid(good)
        assert not OAS31Validator(of_shape).is_valid(bad)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return a server on a socket with all kinds of models."""
    root = tmp_path_factory.mktemp("repository")
    models.picture_bundle(root)
    models.series_bundle(root)
    models.text_bundle(root)
    models.write_sum_and_difference(root / "pair.onnx")
    models.write_doubler(root / "large.onnx", axes=("n", 3, 64, 64))
    models.write_identity(root / "words.onnx", TensorProto.STRING, ["n"])
    models.write_identity(root / "flags.onnx", TensorProto.BOOL)
    models.write_identity(root / "half.onnx", TensorProto.FLOAT16)
    with (
        running(create_app(Settings(repository=root, access_log=False))) as served,
        Client(served) as client,
    ):
        client.wait_until_ready()
        yield served


def samples(address: str, language: str) -> list[tuple[str, str]]:
    """Return path and source of every sample."""
    document = httpx.get(f"{address}/openapi.json").json()
    return [
        (path, sample["source"])
        for path, operation in operations(document)
        for sample in operation.get("x-codeSamples", ())
        if sample["lang"] == language
    ]


def paths_of(address: str) -> Any:
    """Return the documented paths of a server on a socket."""
    return httpx.get(f"{address}/openapi.json").json()["paths"]


def run(line: str) -> str:
    """Return what a shell prints."""
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_command_lines_work_as_they_stand(address: str) -> None:
    """Pasted into a shell each is answered, long tensors included."""
    found = samples(address, "Shell")
    assert len(found) == 8 * 2 - 2
    for path, line in found:
        printed = run(line)
        assert orjson.loads(printed).keys() & {"predictions", "outputs"}, (path, printed[:300])


async def test_programs_work_as_they_stand(address: str) -> None:
    """Each Python sample runs; without the binary extension, tensors are sent as JSON."""
    with Client(address) as client:
        binary = "binary_tensor_data" in client.server().extensions
    found = samples(address, "Python")
    assert len(found) == 8 * 2 - 1
    for path, source in found:
        if path.endswith("/infer") and not binary:
            if path.endswith("/half/infer"):
                continue
            source = source.replace(", inputs)", ", inputs, binary=False)")  # noqa: PLW2901
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(source, path, "exec"), {})
        assert printed.getvalue(), path


async def test_long_tensors_are_shortened(address: str) -> None:
    """The example says how many elements are missing, and no V1 example is given."""
    paths = paths_of(address)
    request = paths["/v2/models/large/infer"]["post"]["requestBody"]["content"]["application/json"]
    assert list(request["examples"]) == ["shortened"]
    assert "12288" in request["examples"]["shortened"]["summary"]
    tensor = request["examples"]["shortened"]["value"]["inputs"][0]
    assert (tensor["shape"], tensor["data"]) == ([1, 3, 64, 64], [0.0, 0.0, 0.0])
    raw = paths["/v1/models/large:predict"]["post"]
    assert "examples" not in raw["requestBody"]["content"]["application/json"]
    assert "x-codeSamples" not in raw


async def test_half_precision_has_no_example_in_json(address: str) -> None:
    """It travels as bytes, which the description says."""
    operation = paths_of(address)["/v2/models/half/infer"]["post"]
    assert "examples" not in operation["requestBody"]["content"]["application/json"]
    assert "binary" in operation["description"]
    assert [sample["lang"] for sample in operation["x-codeSamples"]] == ["Python"]


def described(name: str, version: int = 1, state: State = State.READY) -> ModelView:
    """Return a view of a model that has an example."""
    contract = Contract(
        task="tensor",
        inputs=[InputContract(name="x", datatype="FP32", shape=["n", 2])],
        outputs=[OutputContract(name="y", datatype="FP32", shape=["n", 2])],
        pipeline=TensorPipeline(),
        batchable=False,
    )
    example = Showcase(contract, [1, 2], (ShownTensor("x", "FP32", (1, 2), [1, 2]),))
    return replace(view(name, state), version=version, showcase=example)


async def test_the_document_is_written_when_models_change_and_only_then() -> None:
    """What it describes is a load: a new one is described anew, the same one is not."""
    first = described("a")
    registry = FakeModels([first])
    async with client_of(make_app(models=registry)) as client:
        assert [one["version"] for one in (await document_of(client))["x-models"]] == [1]
        # A change that no load can make: were the document written again, it would show.
        registry.known = [replace(first, version=2)]
        assert [one["version"] for one in (await document_of(client))["x-models"]] == [1]
        registry.known = [described("a", 3)]
        assert [one["version"] for one in (await document_of(client))["x-models"]] == [3]
        registry.known = []
        assert (await document_of(client))["x-models"] == []


async def test_only_the_version_that_answers_is_described() -> None:
    """Of several versions the highest that is ready, and nothing that is loading."""
    registry = FakeModels(
        [
            described("b", 2),
            described("b", 10),
            described("b", 11, State.LOADING),
            described("a", 1, State.FAILED),
            view("c"),
        ]
    )
    async with client_of(make_app(models=registry)) as client:
        found = [(one["name"], one["version"]) for one in (await document_of(client))["x-models"]]
        assert found == [("b", 10)]


async def test_names_that_look_alike_have_operations_of_their_own() -> None:
    """Ids are words, names are not."""
    registry = FakeModels([described(name) for name in ("a.b", "a-b", "a_b", "a_b_2")])
    async with client_of(make_app(models=registry)) as client:
        found = operations(await document_of(client))
        assert len({operation["operationId"] for _, operation in found}) == 8


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("models.example:8443", "http://models.example:8443"),
        ("[::1]:80", "http://[::1]:80"),
        ("a;rm -rf ~", "http://127.0.0.1:8080"),
        ('x"y', "http://127.0.0.1:8080"),
        ("[", "http://127.0.0.1:8080"),
        ("", "http://127.0.0.1:8080"),
    ],
)
async def test_lines_name_the_server_as_the_caller_does(
    client: httpx.AsyncClient, host: str, shown: str
) -> None:
    """The Host header, if it is one; nothing else may get into a line for a shell."""
    answer = await client.get("/openapi.json", headers={"Host": host})
    assert answer.json()["x-server"] == shown
    assert answer.headers["vary"] == "Host"
    line = answer.json()["paths"]["/v1/models/texts:predict"]["post"]["x-codeSamples"][0]["source"]
    assert line.endswith(f" {shown}/v1/models/texts:predict")


async def test_lines_behind_a_proxy(tmp_path: Path) -> None:
    """The path that the proxy has cut off stands in front."""
    app = create_app(Settings(repository=tmp_path, root_path="/ml"))
    async with client_of(app) as client:
        assert (await document_of(client))["x-server"] == f"{BASE_URL}/ml"


async def test_the_page_can_reach_nothing_but_this_server(client: httpx.AsyncClient) -> None:
    """Its policy allows its own text, this server, and pictures that are in the page."""
    policy = (await client.get("/docs")).headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    sources = {word for rule in policy for word in rule.split()[1:]}
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:", "blob:"}
