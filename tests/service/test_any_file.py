"""Files of every kind through the whole server: opsets, formats, weights, and how rows are run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from onnx import TensorProto

from service.app import create_app
from service.settings import Settings
from tests.support import graphs, models
from tests.support.asking import infer, inferred, info, predict, tensor
from tests.support.clients import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROWS = [[1, 2], [3, 4]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of bare files, one of a kind."""
    root = tmp_path_factory.mktemp("files")
    for name in (
        *("scaled", "centred", "noise", "dropping", "running_sum", "product", "scalars"),
        *("classifier", "pieces"),
    ):
        getattr(graphs, f"write_{name}")(root / f"{name}.onnx")
    for opset in (6, 7):
        graphs.write_relu(root / f"opset{opset}.onnx", opset)
    models.write_identity(root / "same.onnx", TensorProto.FLOAT)
    models.write_identity(root / "single.onnx", TensorProto.FLOAT, [1, 2])
    models.write_embedding(root / "embedding.onnx")
    graphs.write_external(root / "external" / "1" / "model.onnx", "weights/w.bin")
    graphs.write_weights(root / "external" / "1" / "weights" / "w.bin")
    graphs.write_external(root / "in_folder" / "1" / "model.onnx" / "model.onnx", "w.bin")
    graphs.write_weights(root / "in_folder" / "1" / "model.onnx" / "w.bin")
    graphs.to_ort_format(root / "scaled.onnx", root / "ort_folder" / "1" / "model.ort")
    graphs.to_ort_format(root / "scalars.onnx", root / "ort_file.ort")
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(repository: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a server over the repository, all models tried."""
    async with serving(create_app(Settings(repository=repository))) as connected:
        yield connected


@pytest.mark.parametrize("opset", [6, 7])
async def test_old_opsets(client: httpx.AsyncClient, opset: int) -> None:
    """Opset 7 is served; what still runs below is served with a note."""
    model = f"opset{opset}"
    assert await predict(client, model, [-1, 2]) == [[0, 2]]
    found = await info(client, model)
    assert found["model"]["opsets"]["ai.onnx"] == opset
    assert any("opset 6" in note for note in found["notes"]) == (opset == 6)


@pytest.mark.parametrize("model", ["external", "in_folder"])
async def test_weights_beside_the_file(client: httpx.AsyncClient, model: str) -> None:
    """In the model's folder or below; the folder may also be called model.onnx."""
    assert await predict(client, model, [1, 1]) == [[2, 3]]
    assert any(".bin" in note for note in (await info(client, model))["notes"])


async def test_onnx_runtimes_own_format(client: httpx.AsyncClient) -> None:
    """A .ort file answers like its .onnx, and is marked as not inspected."""
    assert await predict(client, "ort_folder", [1, 2]) == [[10, 200]]
    assert await predict(client, "ort_file", {"a": 3, "b": 2}) == [6]
    for model in ("ort_folder", "ort_file"):
        found = await info(client, model)
        assert (found["kind"], found["model"]) == ("ort", None)
        assert "not inspected" in found["notes"][0]


async def test_info_tells_what_is_in_the_file(client: httpx.AsyncClient) -> None:
    """Kind, opset and operators without asking for the file."""
    found = await info(client, "scaled")
    assert found["kind"] == "onnx"
    assert found["model"]["opsets"] == {"ai.onnx": 18, "ai.onnx.ml": 3}
    assert found["model"]["operators"] == {"Mul": 1}
    assert found["notes"] == ["input 'scale' may be left out; a call that sends it runs alone"]


@pytest.mark.parametrize(
    ("model", "independent", "why"),
    [
        ("same", True, "alone, together"),
        ("embedding", True, "alone, together"),
        ("classifier", True, "alone, together"),
        ("centred", False, "output 'y' of a row depends on the rows beside it"),
        ("running_sum", False, "depends on the rows beside it"),
        ("noise", False, "not the same when asked twice"),
        ("product", False, "leads with 'k'"),
        ("scalars", False, "without a free first axis"),
        ("pieces", False, "type seq(tensor(float))"),
        ("single", False, "shape [1, 2]"),
    ],
)
async def test_whether_rows_share_runs_is_found_out(
    client: httpx.AsyncClient,
    model: str,
    independent: bool,  # noqa: FBT001 - a parameter of the test
    why: str,
) -> None:
    """The finding and its reason stand in model-info and in the contract that holds."""
    found = await info(client, model)
    assert found["batching"]["rows_independent"] is independent
    assert why in found["batching"]["why"]
    assert found["contract"]["batchable"] is independent


async def test_rows_that_depend_on_each_other_are_kept_apart(client: httpx.AsyncClient) -> None:
    """V1 asks such a model row by row; V2 asks it with the rows of one call, as they were sent."""
    assert await predict(client, "centred", *ROWS) == [[0, 0], [0, 0]]
    (together,) = await inferred(client, "centred", tensor("x", "FP32", [2, 2], [1, 2, 3, 4]))
    assert together["data"] == [-1, -1, 1, 1]


async def test_a_wrong_number_of_rows_is_never_handed_out(client: httpx.AsyncClient) -> None:
    """The call fails, the model stops to share runs, and from then on answers what it answers."""
    assert (await info(client, "dropping"))["batching"]["rows_independent"] is True
    rows = tensor("x", "FP32", [3, 2], [1, 1, 5000, 5, 2, 2])
    failed = await infer(client, "dropping", rows)
    assert failed.status_code == 500
    assert "shape [2, 2] for 3 rows" in failed.json()["error"]

    found = (await info(client, "dropping"))["batching"]
    assert found["rows_independent"] is False
    assert "shape [2, 2] for 3 rows" in found["why"]
    (alone,) = await inferred(client, "dropping", rows)
    assert alone["shape"] == [2, 2]
    assert await predict(client, "dropping", [1, 1], [2, 2]) == [[1, 1], [2, 2]]
