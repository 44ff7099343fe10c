"""Which rows may be stacked, and that padding is what the contract allows and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from service.contract import (
    Contract,
    InputContract,
    OutputContract,
    Pipeline,
    SequencePipeline,
    TensorPipeline,
    TextPipeline,
)
from service.padding import Layout, Padding, layout_of
from service.tokens import TokenizerConfig

SERIES = SequencePipeline(channels=2, mean=[0, 0], std=[1, 1], max_length=16)
TEXT = TextPipeline(tokenizer=TokenizerConfig(buckets=20, max_tokens=12))
VALUES = InputContract(name="values", datatype="FP32", shape=["batch", "time", 2])
LENGTHS = InputContract(name="lengths", datatype="INT64", shape=["batch"], minimum=1)
IDS = InputContract(name="ids", datatype="INT64", shape=["batch", "time"])
SCORES = OutputContract(name="scores", datatype="FP32", shape=["batch", 3])
WEIGHTS = OutputContract(name="weights", datatype="FP32", shape=["batch", 2, "time", "time"])


def contract(
    pipeline: Pipeline,
    *inputs: InputContract,
    outputs: tuple[OutputContract, ...] = (SCORES,),
    batchable: bool = True,
) -> Contract:
    """Return the contract of a model with these inputs and outputs."""
    return Contract(
        task="tensor",
        inputs=list(inputs),
        outputs=list(outputs),
        pipeline=pipeline,
        batchable=batchable,
    )


def test_series_and_texts_may_be_padded() -> None:
    """Lengths say where a series ends, and the padding of a text has an id of its own."""
    series = layout_of(contract(SERIES, VALUES, LENGTHS))
    assert series == Layout((("values", (1,)),), Padding("values", "lengths", {}))
    text = layout_of(contract(TEXT, IDS, outputs=(SCORES, WEIGHTS)))
    assert text == Layout((("ids", (1,)),), Padding("ids", None, {"weights": (2, 3)}))


@pytest.mark.parametrize(
    "model",
    [
        contract(TensorPipeline(), VALUES, LENGTHS),
        contract(SERIES, VALUES, LENGTHS, batchable=False),
        contract(
            TEXT,
            IDS,
            outputs=(OutputContract(name="y", datatype="FP32", shape=["batch", "steps"]),),
        ),
        contract(TEXT, InputContract(name="ids", datatype="INT64", shape=["batch", -1])),
        contract(TEXT, InputContract(name="ids", datatype="INT64", shape=["batch", 12])),
    ],
    ids=["no-mask", "dependent-rows", "another-length", "no-name", "fixed"],
)
def test_nothing_else_is_padded(model: Contract) -> None:
    """Where the graph is not known to mask, or an output could not be cut back."""
    assert layout_of(model).padding is None


def test_shapes_that_vary_keep_jobs_apart() -> None:
    """Fixed shapes are all alike; variable ones must be equal, and so must the outputs wanted."""
    fixed = layout_of(
        contract(TensorPipeline(), InputContract(name="x", datatype="FP32", shape=["n", 3]))
    )
    free = layout_of(contract(TensorPipeline(), VALUES))
    three = {"x": np.zeros((1, 3))}
    assert fixed.key(three, ("y",)) == fixed.key(three, ("y",)) != fixed.key(three, ("z",))
    assert fixed.length(three) == 0
    short, long = ({"values": np.zeros((1, size, 2))} for size in (4, 5))
    assert free.key(short, ("y",)) != free.key(long, ("y",))
    assert free.key(short, ("y",)) == free.key({"values": np.ones((9, 4, 2))}, ("y",))
    assert free.length(long) == 5


def test_any_shape_is_compared_whole() -> None:
    """Where not even the number of axes is known, the longest of them all counts."""
    layout = Layout((("x", ()),))
    assert layout.length({"x": np.zeros((9, 2, 7))}) == 7
    assert layout.length({"x": np.zeros(9)}) == 0
    assert layout.key({"x": np.zeros((1, 2))}, ()) != layout.key({"x": np.zeros((1, 2, 1))}, ())


def test_rows_of_a_bucket_are_padded_to_the_longest() -> None:
    """Zeros behind the values; the lengths stay, and a job alone is not touched."""
    layout = layout_of(contract(SERIES, VALUES, LENGTHS))
    short = {"values": np.ones((2, 5, 2), np.float32), "lengths": np.asarray([5, 3])}
    long = {"values": np.full((1, 7, 2), 2, np.float32), "lengths": np.asarray([7])}
    assert layout.key(short, ()) == layout.key(long, ())
    joined = layout.join([short, long])
    assert joined["values"].shape == (3, 7, 2)
    assert joined["values"].dtype == np.float32
    assert (joined["values"][:2, :5] == 1).all()
    assert (joined["values"][:2, 5:] == 0).all()
    assert (joined["values"][2] == 2).all()
    assert joined["lengths"].tolist() == [5, 3, 7]
    assert layout.join([short])["values"].shape == (2, 5, 2)


def test_a_length_that_is_not_there_keeps_a_job_alone() -> None:
    """A row that claims to be longer than it is would take its padding for values."""
    layout = layout_of(contract(SERIES, VALUES, LENGTHS))
    claims = {"values": np.ones((2, 5, 2), np.float32), "lengths": np.asarray([5, 6])}
    assert layout.key(claims, ()) is None


def test_outputs_are_cut_back() -> None:
    """Along every axis that is as long as the input, and no other; who asked less gets less."""
    layout = layout_of(contract(TEXT, IDS, outputs=(SCORES, WEIGHTS)))
    own = {"ids": np.ones((2, 4), np.int64)}
    outputs = {"scores": np.zeros((2, 3)), "weights": np.arange(200.0).reshape(2, 1, 10, 10)}
    cut = layout.cut(dict(outputs), own)
    assert cut["scores"].shape == (2, 3)
    assert np.array_equal(cut["weights"], outputs["weights"][:, :, :4, :4])
    assert list(layout.cut({"scores": outputs["scores"]}, own)) == ["scores"]
