"""A bundle is published whole and proved, or not at all."""

from __future__ import annotations

import getpass
import io
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from service.bundle import Bundle, read_bundle
from service.contract import (
    Contract,
    ImagePipeline,
    InputContract,
    OutputContract,
    SequencePipeline,
    TensorPipeline,
)
from service.errors import BundleError
from service.golden import load
from training.export import Extras, Served, export_bundle, save_graph
from training.parity import ExportError

SERIES = [json.dumps([[float(i), 1.0]] * (1 + i % 5)).encode() for i in range(16)]


class Picture(nn.Module):
    """The smallest network that is a classifier of 8 x 8 pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.head(torch.relu(self.conv(image)).mean((2, 3))),)

    def cam(self, image: Tensor) -> Tensor:
        return torch.einsum("bkhw,ck->bchw", torch.relu(self.conv(image)), self.head.weight)


class MeanOfSteps(nn.Module):
    """A classifier of series by the mean of its steps, masked by the lengths or carelessly not."""

    def __init__(self, *, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.head = nn.Linear(2, 3)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        if not self.masked:
            return torch.softmax(self.head(values.mean(1)) + 0 * lengths[:, None], -1)
        steps = torch.arange(values.shape[1])
        mask = (steps[None] < lengths[:, None]).float().unsqueeze(2)
        mean = (values * mask).sum(1) / lengths[:, None].float()
        return torch.softmax(self.head(mean), -1)


def picture_contract() -> Contract:
    """Return the contract of `Picture`."""
    return Contract(
        task="classification",
        inputs=[InputContract(name="image", datatype="FP32", shape=["batch", 1, 8, 8])],
        outputs=[OutputContract(name="probabilities", datatype="FP32", shape=["batch", 3])],
        pipeline=ImagePipeline(height=8, width=8, channels=1, mean=[0.5], std=[0.5]),
        labels=["a", "b", "c"],
        batchable=True,
    )


def series_contract() -> Contract:
    """Return the contract of `MeanOfSteps`."""
    return Contract(
        task="classification",
        inputs=[
            InputContract(name="values", datatype="FP32", shape=["batch", "time", 2]),
            InputContract(name="lengths", datatype="INT64", shape=["batch"], minimum=1),
        ],
        outputs=[OutputContract(name="probabilities", datatype="FP32", shape=["batch", 3])],
        pipeline=SequencePipeline(channels=2, mean=[0, 0], std=[1, 1], max_length=16),
        labels=["a", "b", "c"],
        batchable=True,
    )


def pngs() -> list[bytes]:
    """Return sixteen pictures as JSON-free PNG files."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(16):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def export_series(module: nn.Module, repository: Path) -> Bundle:
    """Export a series classifier under the name 'series'."""
    example = (torch.randn(3, 5, 2), torch.tensor([5, 2, 1]))
    return export_bundle(
        module,
        example,
        series_contract(),
        repository=repository,
        name="series",
        golden=SERIES,
        media_type="application/json",
    )


@pytest.fixture(scope="module")
def picture_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle of `Picture` with an explanation, a report and a recipe."""
    network = Picture()

    class Explained(nn.Module):
        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            return torch.softmax(network(image)[0], -1), network.cam(image)

    return export_bundle(
        Served(network),
        (torch.randn(3, 1, 8, 8),),
        picture_contract(),
        repository=tmp_path_factory.mktemp("models"),
        name="picture",
        golden=pngs(),
        media_type="image/png",
        extras=Extras(
            reports=lambda file: {"metrics": {"bytes": file.stat().st_size}},
            texts={"recipe.toml": 'family = "cnn"\n'},
            explain=(Explained(), ("probabilities", "cam")),
        ),
    )


def test_bundle_holds_the_model_its_proof_and_nothing_else(picture_bundle: Bundle) -> None:
    """Every file is listed with a hash that holds, and reports can be read back."""
    picture_bundle.verify_files()

    assert set(picture_bundle.manifest.files) == {
        "model.onnx",
        "golden.npz",
        "parity.json",
        "metrics.json",
        "recipe.toml",
        "explain/explain.onnx",
    }
    metrics = picture_bundle.report("metrics")
    assert metrics == {"bytes": picture_bundle.manifest.files["model.onnx"].bytes}


def test_parity_covers_batch_sizes_and_rows_alone(picture_bundle: Bundle) -> None:
    """The parity report names each batch size and stays within the tolerance."""
    parity = picture_bundle.report("parity")

    assert parity is not None
    assert [case["batch"] for case in parity["cases"]] == [1, 2, 7, 64]
    assert parity["max_abs"] <= parity["tolerance"] == 1e-5
    assert parity["row_alone_max_abs"] <= 1e-5


def test_golden_vectors_are_the_networks_own_answers(picture_bundle: Bundle) -> None:
    """Sixteen raw inputs are kept as a client sends them, with one row of scores each."""
    golden = load(picture_bundle.read("golden.npz"))

    assert golden.raws == tuple(pngs())
    assert golden.media_type == "image/png"
    assert all(row.shape == (3,) for row in golden.expected["probabilities"])


def test_model_file_has_symbolic_axes_and_no_trace_of_the_machine(picture_bundle: Bundle) -> None:
    """The batch axis is named, the file is checked, and no path or user name is inside."""
    content = picture_bundle.read("model.onnx")
    model = onnx.load_from_string(content)

    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    for trace in ("stack_trace", "site-packages", ".py", str(Path.cwd()), str(Path.home())):
        assert trace.encode() not in content
    assert f"/{getpass.getuser()}/".encode() not in content


def test_bundle_loads_in_plain_onnx_runtime(picture_bundle: Bundle) -> None:
    """Nothing of ours is needed to run the model, nor its explanation."""
    image = np.zeros((5, 1, 8, 8), np.float32)
    for name, shape in (("model.onnx", (5, 3)), ("explain/explain.onnx", (5, 3))):
        session = ort.InferenceSession(str(picture_bundle.path / name))
        assert session.run(None, {"image": image})[0].shape == shape


def test_series_keep_two_variable_axes(tmp_path: Path) -> None:
    """Parity of a series model is measured over lengths 1, 7 and the longest allowed."""
    bundle = export_series(MeanOfSteps(masked=True), tmp_path)
    parity = bundle.report("parity")

    assert parity is not None
    assert sorted({case["length"] for case in parity["cases"]}) == [1, 7, 16]
    assert bundle.path == tmp_path / "series" / "1"
    assert read_bundle(bundle.path) == bundle


def test_padding_that_reaches_an_answer_is_refused(tmp_path: Path) -> None:
    """A network that averages over padded steps is not exported, and nothing is left behind."""
    with pytest.raises(ExportError, match="padding leaks"):
        export_series(MeanOfSteps(masked=False), tmp_path)

    assert list((tmp_path / "series").iterdir()) == []


def test_a_frozen_axis_is_refused(tmp_path: Path) -> None:
    """A network that only works for one batch size is refused with a reason."""

    class Frozen(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.softmax(image.reshape(3, 64)[:, :3], -1)

    with pytest.raises(ExportError):
        export_picture(Frozen(), tmp_path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (["batch", 3, 1], "the graph has 'probabilities' with 2 axes, the contract .* shape"),
        (["batch", "classes"], "'probabilities' axis 1: exported 3, promised classes"),
    ],
)
def test_a_graph_of_another_shape_than_promised_is_refused(
    tmp_path: Path, shape: list[int | str], message: str
) -> None:
    """The exporter may freeze an axis in silence, so the graph itself is looked at."""
    promised = OutputContract(name="probabilities", datatype="FP32", shape=shape)
    contract = picture_contract().model_copy(update={"outputs": [promised]})
    with pytest.raises(ExportError, match=message):
        save_graph(Served(Picture()), (torch.randn(3, 1, 8, 8),), contract, tmp_path / "x.onnx")


def export_picture(
    module: nn.Module, repository: Path, *, golden: list[bytes] | None = None
) -> Bundle:
    """Export a picture classifier under the name 'picture'."""
    return export_bundle(
        module,
        (torch.randn(3, 1, 8, 8),),
        picture_contract(),
        repository=repository,
        name="picture",
        golden=pngs() if golden is None else golden,
        media_type="image/png",
    )


def test_too_few_golden_inputs_are_refused(tmp_path: Path) -> None:
    """Sixteen golden inputs are the least, and fewer are refused before anything is written."""
    with pytest.raises(ExportError, match="15 golden inputs"):
        export_picture(Served(Picture()), tmp_path, golden=pngs()[:15])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_no_half_bundle(tmp_path: Path) -> None:
    """Ctrl-C while reports are made leaves neither a version nor a hidden folder."""

    def interrupted(_: Path) -> dict[str, dict[str, object]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bundle(
            Served(Picture()),
            (torch.randn(3, 1, 8, 8),),
            picture_contract(),
            repository=tmp_path,
            name="picture",
            golden=pngs(),
            media_type="image/png",
            extras=Extras(reports=interrupted),
        )

    assert list((tmp_path / "picture").iterdir()) == []


def test_versions_count_up_and_are_never_overwritten(picture_bundle: Bundle) -> None:
    """The second export is version 2; asking for version 1 again is refused."""
    repository = picture_bundle.path.parent.parent
    second = export_picture(Served(Picture()), repository)

    assert (picture_bundle.path.name, second.path.name) == ("1", "2")
    with pytest.raises(BundleError, match="never overwritten"):
        export_bundle(
            Served(Picture()),
            (torch.randn(3, 1, 8, 8),),
            picture_contract(),
            repository=repository,
            name="picture",
            golden=pngs(),
            media_type="image/png",
            version=1,
        )


def test_any_module_becomes_a_bundle_of_plain_tensors(tmp_path: Path) -> None:
    """A regression network with two inputs and a tensor pipeline is exported and proved."""

    class Distance(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a - b).square().sum(1, keepdim=True)

    contract = Contract(
        task="regression",
        inputs=[
            InputContract(name=name, datatype="FP32", shape=["batch", 4]) for name in ("a", "b")
        ],
        outputs=[OutputContract(name="distance", datatype="FP32", shape=["batch", 1])],
        pipeline=TensorPipeline(),
        batchable=True,
    )
    random = np.random.default_rng(0)
    golden = []
    for _ in range(16):
        buffer = io.BytesIO()
        np.savez(buffer, a=random.random(4, np.float32), b=random.random(4, np.float32))
        golden.append(buffer.getvalue())
    bundle = export_bundle(
        Distance(),
        (torch.randn(3, 4), torch.randn(3, 4)),
        contract,
        repository=tmp_path,
        name="distance",
        golden=golden,
        media_type="application/x-npz",
    )

    assert bundle.manifest.task == "regression"
    assert load(bundle.read("golden.npz")).expected["distance"][0].shape == (1,)
