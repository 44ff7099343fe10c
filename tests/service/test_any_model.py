"""Graphs of every kind through the whole server, in both protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio
from onnx import TensorProto

from service.app import create_app
from service.settings import Settings
from service.tensors import DATATYPES
from tests.support import graphs, models
from tests.support.asking import infer, inferred, info, predict, tensor
from tests.support.clients import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBERS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64")
ROWS = [[1, 2], [3, 4]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of bare files, one of a kind."""
    root = tmp_path_factory.mktemp("any")
    for wire in (*NUMBERS, "BOOL", "BYTES", "FP16"):
        kind = {"FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING", "FP16": "FLOAT16"}
        number = TensorProto.DataType.Value(kind.get(wire, wire))
        models.write_identity(root / f"same-{wire}.onnx", number)
    for name in (
        *("scaled", "maybe", "state", "product", "scalars", "any_rank", "classifier", "pieces"),
        *("optional_output", "half_precision"),
    ):
        getattr(graphs, f"write_{name}")(root / f"{name}.onnx")
    graphs.write_classifier(root / "named.onnx", ["no", "yes"])
    graphs.write_pieces(root / "only_pieces.onnx", with_sum=False)
    graphs.write_cast(root / "inner_bfloat16.onnx", TensorProto.BFLOAT16, back=True)
    models.write_identity(root / "empty.onnx", TensorProto.FLOAT, ["n", 0])
    models.write_identity(root / "series.onnx", TensorProto.FLOAT, ["n", "time", 2])
    models.write_identity(root / "fixed.onnx", TensorProto.FLOAT, [3, 2])
    models.write_identity(root / "single.onnx", TensorProto.FLOAT, [1, 2])
    models.write_sum_and_difference(root / "pair.onnx")
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(repository: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a server over the repository, all models tried."""
    async with serving(create_app(Settings(repository=repository))) as connected:
        yield connected


async def test_every_file_loads(client: httpx.AsyncClient) -> None:
    """Nothing in this zoo is refused."""
    names = (await client.get("/v1/models")).json()["models"]
    assert len(names) == 31
    reasons = {name: (await info(client, name))["reason"] for name in names}
    assert not any(reasons.values()), reasons


@pytest.mark.parametrize("wire", NUMBERS)
async def test_numbers_of_all_sizes(client: httpx.AsyncClient, wire: str) -> None:
    """The smallest and the largest number of each type come back, in both protocols."""
    kind = DATATYPES[wire].numpy
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    data = np.asarray([limits.min, limits.max], kind).tolist()
    model = f"same-{wire}"
    assert (await inferred(client, model, tensor("x", wire, [1, 2], data)))[0]["data"] == [
        pytest.approx(number) for number in data
    ]
    assert await predict(client, model, data) == [[pytest.approx(number) for number in data]]


async def test_booleans_texts_and_half_precision(client: httpx.AsyncClient) -> None:
    """Each has its own form in JSON; half precision has one only in V1."""
    flags = tensor("x", "BOOL", [1, 2], [True, False])
    assert (await inferred(client, "same-BOOL", flags))[0]["data"] == [True, False]
    assert await predict(client, "same-BOOL", [True, False]) == [[True, False]]
    words = tensor("x", "BYTES", [1, 2], ["", "é"])
    assert (await inferred(client, "same-BYTES", words))[0]["data"] == ["", "é"]
    assert await predict(client, "same-BYTES", ["", "é"]) == [["", "é"]]
    assert await predict(client, "same-FP16", [0.5, -2]) == [[0.5, -2]]


async def test_several_inputs_and_outputs(client: httpx.AsyncClient) -> None:
    """Objects keyed by name in V1, in any order in V2."""
    assert await predict(client, "pair", {"b": [1, 1], "a": [3, 4]}) == [
        {"sum": [4, 5], "difference": [2, 3]}
    ]
    a, b = tensor("a", "INT32", [1, 2], [3, 4]), tensor("b", "INT32", [1, 2], [1, 1])
    assert [out["name"] for out in await inferred(client, "pair", b, a)] == ["sum", "difference"]


async def test_numbers_without_axes(client: httpx.AsyncClient) -> None:
    """Rank 0 has the empty shape and one element; in V1 it is the number itself."""
    a, b = tensor("a", "FP32", [], [3]), tensor("b", "FP32", [], [0.5])
    assert await inferred(client, "scalars", a, b) == [tensor("product", "FP32", [], [1.5])]
    assert await predict(client, "scalars", {"a": 3, "b": 0.5}, {"a": 2, "b": 2}) == [1.5, 4]
    refused = await infer(client, "scalars", tensor("a", "FP32", [1], [3]), b)
    assert refused.status_code == 400
    assert "expected 0 dimensions" in refused.json()["error"]


async def test_tensors_without_elements(client: httpx.AsyncClient) -> None:
    """No rows, rows of nothing, and a series without steps."""
    for model, shape in (("same-FP32", [0, 2]), ("empty", [2, 0]), ("series", [2, 0, 2])):
        (answer,) = await inferred(client, model, tensor("x", "FP32", shape, []))
        assert (answer["shape"], answer["data"]) == (shape, [])
    assert await predict(client, "empty", [], []) == [[], []]
    assert await predict(client, "series", [], []) == [[], []]


async def test_free_axes_take_any_size(client: httpx.AsyncClient) -> None:
    """Series of different lengths answer in calls of their own."""
    assert await predict(client, "series", [[1, 2]]) == [[[1, 2]]]
    (long,) = await inferred(client, "series", tensor("x", "FP32", [1, 3, 2], list(range(6))))
    assert long["shape"] == [1, 3, 2]


async def test_models_without_a_free_batch_axis(client: httpx.AsyncClient) -> None:
    """A batch of exactly one is not written in V1; any other fixed shape is the instance itself."""
    assert await predict(client, "single", [1, 2], [3, 4]) == [[1, 2], [3, 4]]
    whole = [[1, 2], [3, 4], [5, 6]]
    assert await predict(client, "fixed", whole) == [whole]
    assert (await info(client, "fixed"))["batching"]["rows_independent"] is False
    wrong = await infer(client, "fixed", tensor("x", "FP32", [1, 2], [1, 2]))
    assert wrong.status_code == 400


async def test_a_first_axis_that_returns_elsewhere_counts_no_rows(
    client: httpx.AsyncClient,
) -> None:
    """Matrices are multiplied as a whole, since the second one's rows are the first one's columns.

    [[1, 2]] times [[3], [4]] is [[11]].
    """
    assert await predict(client, "product", {"a": [[1, 2]], "b": [[3], [4]]}) == [[[11]]]
    a, b = tensor("a", "FP32", [1, 2], [1, 2]), tensor("b", "FP32", [2, 1], [3, 4])
    assert await inferred(client, "product", a, b) == [tensor("y", "FP32", [1, 1], [11])]


async def test_an_input_that_declares_no_axes_takes_any(client: httpx.AsyncClient) -> None:
    """Unknown rank is not the same as rank 0."""
    for shape in ([], [2], [1, 2, 1]):
        size = 2 if shape else 1
        data = list(range(1, 1 + size))
        (answer,) = await inferred(client, "any_rank", tensor("x", "FP32", shape, data))
        assert (answer["shape"], answer["data"]) == (shape, [2 * n for n in data])
    assert await predict(client, "any_rank", [[1, 2]], 3) == [[[2, 4]], 6]
    assert any("does not declare" in note for note in (await info(client, "any_rank"))["notes"])


async def test_a_default_can_be_overridden(client: httpx.AsyncClient) -> None:
    """An initialiser that is also an input is optional, and belongs to the whole call."""
    x, scale = tensor("x", "FP32", [2, 2], [1, 2, 3, 4]), tensor("scale", "FP32", [2], [2, 3])
    assert (await inferred(client, "scaled", x))[0]["data"] == [10, 200, 30, 400]
    assert (await inferred(client, "scaled", x, scale))[0]["data"] == [2, 6, 6, 12]
    assert await predict(client, "scaled", *ROWS) == [[10, 200], [30, 400]]
    mixed = await predict(client, "scaled", {"x": [1, 2], "scale": [2, 3]}, {"x": [1, 2]}, [3, 4])
    assert mixed == [[2, 6], [10, 200], [30, 400]]
    wrong = await infer(client, "scaled", x, tensor("scale", "FP32", [1], [2]))
    assert wrong.status_code == 400
    assert "'scale'" in wrong.json()["error"]


async def test_rows_beyond_a_batch_keep_their_override(client: httpx.AsyncClient) -> None:
    """A call with an optional input is not cut into batches, however many rows it has."""
    x = tensor("x", "FP32", [100, 2], [1.0] * 200)
    scale = tensor("scale", "FP32", [2], [2, 3])
    (answer,) = await inferred(client, "scaled", x, scale)
    assert answer["data"] == [2, 3] * 100


async def test_an_optional_value_may_be_missing(client: httpx.AsyncClient) -> None:
    """ONNX's own optional type, left out and sent."""
    (missing,) = await inferred(client, "maybe")
    (sent,) = await inferred(client, "maybe", tensor("x", "FP32", [1, 2], [1, 2]))
    assert (missing["data"], sent["data"]) == ([False], [True])
    assert await predict(client, "maybe", {}, {"x": ROWS}) == [False, True]


async def test_state_goes_out_and_in_again(client: httpx.AsyncClient) -> None:
    """A recurrent model's state is a tensor like any other, and its calls never share a run."""
    state: object = [[[0, 0]]]
    for step in (1, 2, 3):
        (answer,) = await predict(client, "state", {"x": [[1, 10]], "state": state})
        assert answer["out"] == [[step, 10 * step]]
        state = answer["state_out"]
    found = (await info(client, "state"))["batching"]
    assert found["rows_independent"] is False
    assert "'state'" in found["why"]


@pytest.mark.parametrize(("model", "keys"), [("classifier", ("7", "9")), ("named", ("no", "yes"))])
async def test_a_map_of_scores_is_an_object_in_v1(
    client: httpx.AsyncClient, model: str, keys: tuple[str, str]
) -> None:
    """What skl2onnx writes for a classifier answers a label and its scores, row by row."""
    first, second = await predict(client, model, [0.1, 0.9], [0.75, 0.25])
    labels = [int(key) if key.isdigit() else key for key in keys]
    assert first == {"label": labels[1], "scores": {keys[0]: 0.1, keys[1]: 0.9}}
    assert second == {"label": labels[0], "scores": {keys[0]: 0.75, keys[1]: 0.25}}
    assert (await info(client, model))["batching"]["rows_independent"] is True


async def test_v2_answers_the_tensors_and_names_what_it_left_out(
    client: httpx.AsyncClient,
) -> None:
    """Without names all tensors; the map asked for by name is refused with what to do."""
    x = tensor("x", "FP32", [2, 2], [0, 1, 1, 0])
    answer = (await infer(client, "classifier", x)).json()
    assert answer["outputs"] == [tensor("label", "INT64", [2], [9, 7])]
    assert answer["parameters"]["left_out"].startswith("scores:")
    named = (await infer(client, "classifier", x, outputs=("label",))).json()
    assert "parameters" not in named
    refused = await infer(client, "classifier", x, outputs=("label", "scores"))
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert "'scores': seq(map(int64,tensor(float)))" in error
    assert "'label'" in error
    assert ":predict" in error
    metadata = (await client.get("/v2/models/classifier")).json()
    assert [output["name"] for output in metadata["outputs"]] == ["label"]


async def test_sequences_and_optional_values_are_plain_values_in_v1(
    client: httpx.AsyncClient,
) -> None:
    """A sequence is a list, an optional value is itself or null; they are never cut into rows."""
    assert await predict(client, "pieces", [1, 2], [3, 4]) == [
        {"columns": [[[1]], [[2]]], "sum": 3},
        {"columns": [[[3]], [[4]]], "sum": 7},
    ]
    assert await predict(client, "optional_output", [1, 2]) == [{"some": [[1, 2]], "none": None}]


async def test_a_model_without_any_tensor_output_is_for_v1_only(client: httpx.AsyncClient) -> None:
    """V2 has nothing to answer and says where the answer is."""
    assert await predict(client, "only_pieces", [1, 2]) == [[[[1]], [[2]]]]
    refused = await infer(client, "only_pieces", tensor("x", "FP32", [1, 2], [1, 2]))
    assert refused.status_code == 400
    assert ":predict" in refused.json()["error"]


async def test_half_precision_does_not_end_the_process(client: httpx.AsyncClient) -> None:
    """A graph that ONNX Runtime's default optimizers crash on is served."""
    answers = await predict(client, "half_precision", [[1, 3]], [[5, 2]])
    # Rows normalized to (-1, 1) and (1, -1), then times [[1, 2], [3, 4]].
    assert answers == [[pytest.approx([2, 2], abs=0.01)], [pytest.approx([-2, -2], abs=0.01)]]


async def test_types_inside_the_graph_do_not_matter(client: httpx.AsyncClient) -> None:
    """Only inputs and outputs need a form on the wire."""
    assert await predict(client, "inner_bfloat16", [1, 2]) == [[1, 2]]
