"""The example that the documentation shows of a model."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from onnx import TensorProto
from PIL import Image

from service.bundle import GOLDEN_FILE, Bundle
from service.contract import (
    Contract,
    ImagePipeline,
    InputContract,
    OutputContract,
    TensorPipeline,
)
from service.golden import Golden
from service.golden import load as load_golden
from service.loader import LoadOptions, load_model
from service.pipeline import NPZ, make_pipeline
from service.repository import scan
from service.showcase import MAX_ELEMENTS, Showcase, ShownTensor, showcase_of
from tests.support import models


def shown(bundle: Bundle, **changes: object) -> Showcase:
    """Return the example of a bundle whose golden vectors are changed."""
    golden = load_golden(bundle.read(GOLDEN_FILE))
    contract = bundle.manifest
    return showcase_of(contract, make_pipeline(contract), replace(golden, **changes))  # type: ignore[arg-type] # fields of any kind


def plain(*inputs: InputContract, batchable: bool = False) -> Contract:
    """Return the contract of a model without pre-processing."""
    outputs = [OutputContract(name="y", datatype="FP32", shape=["n"])]
    return Contract(
        task="tensor",
        inputs=list(inputs),
        outputs=outputs,
        pipeline=TensorPipeline(),
        batchable=batchable,
    )


def invented(*inputs: InputContract) -> Showcase:
    """Return the example of a model that has recorded none."""
    contract = plain(*inputs)
    return showcase_of(contract, make_pipeline(contract), None)


def test_a_picture_with_its_recorded_answer(tmp_path: Path) -> None:
    """The instance is a golden file, the tensors are what it becomes, the answers are recorded."""
    bundle = models.picture_bundle(tmp_path)
    golden = load_golden(bundle.read(GOLDEN_FILE))
    example = shown(bundle)
    assert isinstance(example.instance, dict)
    raw = base64.b64decode(example.instance["b64"])
    assert raw in golden.raws
    (image,) = example.inputs
    assert (image.name, image.datatype, image.shape) == ("image", "FP32", (1, 1, 2, 2))
    row = make_pipeline(bundle.manifest).decode(raw, "image/png")["image"]
    assert np.array_equal(np.asarray(image.data, np.float32), row.reshape(-1))
    assert isinstance(example.answer, dict)
    assert list(example.answer) == ["label", "score", "scores"]
    scores = golden.expected["scores"][golden.raws.index(raw)]
    assert example.outputs[0].shape == (1, 2)
    assert np.array_equal(np.asarray(example.outputs[0].data, np.float32), scores)


def test_a_series_and_a_text(tmp_path: Path) -> None:
    """Each as it would be sent, with the lengths that the graph takes beside it."""
    series = shown(models.series_bundle(tmp_path))
    assert series.instance in [[[i, 1]] * (1 + i % 4) for i in range(16)]
    assert [one.name for one in series.inputs] == ["values", "lengths"]
    assert isinstance(series.instance, list)
    assert series.inputs[1].data == [len(series.instance)]
    assert isinstance(series.answer, list)
    text = shown(models.text_bundle(tmp_path))
    assert text.instance == "word word "
    assert isinstance(text.answer, dict)
    assert text.answer["label"] == "short"


def test_what_is_shown_is_shorter_than_most(tmp_path: Path) -> None:
    """Three quarters of the vectors are at least as long, and some are shorter."""
    bundle = models.text_bundle(tmp_path)
    sizes = sorted(len(raw) for raw in load_golden(bundle.read(GOLDEN_FILE)).raws)
    example = shown(bundle)
    assert isinstance(example.instance, str)
    assert sizes[0] < len(example.instance) <= sizes[4]


def test_what_is_too_long_is_shortened_and_has_no_recorded_answer(tmp_path: Path) -> None:
    """A long text, a long series and a large picture still are examples that a model takes."""
    text = shown(models.text_bundle(tmp_path), raws=(b"word " * 5000,) * 16)
    assert text.instance == ("word " * 5000)[:600]
    assert (text.answer, text.outputs) == (None, ())
    bundle = models.series_bundle(tmp_path, max_length=5000)
    series = shown(bundle, raws=(orjson.dumps([[1, 2]] * 4000),) * 16)
    assert series.instance == [[1, 2]] * (MAX_ELEMENTS // 2)
    assert series.answer is None
    noise = np.random.default_rng(1).integers(0, 256, (300, 200)).astype(np.uint8)
    picture = shown(models.picture_bundle(tmp_path), raws=(models.png(noise),) * 16)
    assert isinstance(picture.instance, dict)
    small = Image.open(io.BytesIO(base64.b64decode(picture.instance["b64"])))
    assert small.size == (43, 64)
    assert picture.answer is None
    assert picture.inputs[0].data is not None


def test_tensors_that_nobody_can_read_are_left_out() -> None:
    """The picture stays, its numbers do not."""
    contract = Contract(
        task="tensor",
        inputs=[InputContract(name="x", datatype="FP32", shape=["n", 3, 64, 64])],
        outputs=[OutputContract(name="y", datatype="FP32", shape=["n", 1])],
        pipeline=ImagePipeline(height=64, width=64, channels=3, mean=[0] * 3, std=[1] * 3),
        batchable=True,
    )
    golden = Golden((models.png(np.zeros((9, 9, 3))),), "image/png", {"y": (np.zeros(1),)})
    example = showcase_of(contract, make_pipeline(contract), golden)
    assert example.inputs == (ShownTensor("x", "FP32", (1, 3, 64, 64), None, 0.0),)
    assert isinstance(example.instance, dict)
    assert example.answer == [0.0]


def test_golden_rows_of_a_plain_model() -> None:
    """JSON rows are shown; rows in npz files are not, since they cannot be sent as JSON."""
    contract = plain(InputContract(name="x", datatype="FP32", shape=["n", 2]), batchable=True)
    pipeline = make_pipeline(contract)
    as_json = Golden((b"[1, 2.5]",), "application/json", {"y": (np.asarray(3.0, np.float32),)})
    example = showcase_of(contract, pipeline, as_json)
    assert example.instance == [1, 2.5]
    assert example.inputs == (ShownTensor("x", "FP32", (1, 2), [1.0, 2.5], 0.0),)
    assert example.answer == 3.0
    packed = Golden((b"npz",), NPZ, {"y": (np.asarray(3.0, np.float32),)})
    other = showcase_of(contract, pipeline, packed)
    assert (other.instance, other.answer) == (None, None)
    assert other.inputs[0].shape == (1, 2)


@pytest.mark.parametrize("raw", [b"\xff", b"{", b"3", b"[[1, 2, 3]]"])
def test_vectors_that_nobody_has_checked(tmp_path: Path, raw: bytes) -> None:
    """A vector that the model refuses spoils the example, not the load."""
    shown(models.series_bundle(tmp_path), raws=(raw,) * 16)
    shown(models.picture_bundle(tmp_path), raws=(raw * 9000,) * 16)


def test_an_example_without_vectors() -> None:
    """One row within the bounds, axes of one name with one size."""
    example = invented(
        InputContract(name="a", datatype="INT32", shape=["n", 2], minimum=0.5, maximum=9),
        InputContract(name="b", datatype="BYTES", shape=["n", "t"]),
        InputContract(name="c", datatype="BOOL", shape=["n", "n"]),
        InputContract(name="d", datatype="FP32", shape=[-1, -1], maximum=-2.5),
    )
    assert [(one.shape, (one.data or [])[:1]) for one in example.inputs] == [
        ((1, 2), [1]),
        ((1, 8), ["text"]),
        ((1, 1), [False]),
        ((1, 8), [-2.5]),
    ]
    # Where an input has the batch axis twice there are no rows: an instance holds whole tensors.
    assert example.instance == {
        "a": [[1, 1]],
        "b": [["text"] * 8],
        "c": [[False]],
        "d": [[-2.5] * 8],
    }
    assert example.answer is None


def test_an_example_for_inputs_without_a_batch_axis() -> None:
    """A scalar and a fixed shape are sent whole."""
    scalar = InputContract(name="a", datatype="FP32", shape=[])
    matrix = InputContract(name="b", datatype="INT8", shape=[2, 3])
    assert invented(scalar, matrix).instance == {"a": 0.0, "b": [[0, 0, 0], [0, 0, 0]]}
    assert invented(scalar).instance == 0.0


def test_an_example_that_would_be_too_long() -> None:
    """Its shape and what to fill it with are enough."""
    example = invented(InputContract(name="x", datatype="FP32", shape=["n", 3, 224, 224]))
    assert example.instance is None
    assert example.inputs == (ShownTensor("x", "FP32", (1, 3, 224, 224), None, 0.0),)


def test_every_loaded_model_has_an_example(tmp_path: Path) -> None:
    """Proved, unproved and bare models alike."""
    models.picture_bundle(tmp_path)
    models.series_bundle(tmp_path)
    models.text_bundle(tmp_path)
    models.write_identity(tmp_path / "words.onnx", TensorProto.STRING, ["n"])
    for options, recorded in ((LoadOptions(), 3), (LoadOptions(verify="off"), 0)):
        loaded = [load_model(found, options, lambda _: None) for found in scan(tmp_path)]
        examples = [one.showcase for one in loaded if one.showcase is not None]
        assert len(examples) == 4
        assert all(one.instance is not None and one.inputs for one in examples)
        assert sum(one.answer is not None for one in examples) == recorded
        assert sum(not one.invented for one in examples) == recorded
        for one in loaded:
            one.engine.close()
