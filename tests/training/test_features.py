"""What `training.features` promises: the network's inputs as the server would make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.contract import Contract, InputContract, OutputContract, TensorPipeline
from service.pipeline import make_pipeline
from training.features import in_order, make_features, shuffled
from training.raws import MEDIA_TYPES, to_raw
from training.task import make_task

from .tiny import tiny_recipe


@pytest.mark.parametrize("family", ["cnn", "rnn", "attention"])
def test_a_training_batch_is_what_the_server_would_run(roots: dict[str, Path], family: str) -> None:
    """To the last bit, padding among it, and in the order asked for."""
    task = make_task(tiny_recipe(family, roots[family]))
    examples = task.dataset.train.inputs
    features = make_features(task.contract, examples)
    rows = np.array([7, 0, 3, 3])
    pipeline = make_pipeline(task.contract)
    media_type = MEDIA_TYPES[task.dataset.kind]
    served = pipeline.collate([pipeline.decode(to_raw(examples[i]), media_type) for i in rows])
    batch = features.batch(rows)
    assert len(features) == len(examples)
    assert len(batch) == len(served)
    for tensor, wanted in zip(batch, served.values(), strict=True):
        assert torch.equal(tensor, torch.from_numpy(wanted))


def test_plain_tensors_have_no_features() -> None:
    """Nothing is known of what they mean."""
    contract = Contract(
        task="tensor",
        inputs=[InputContract(name="x", datatype="FP32", shape=["batch", 2])],
        outputs=[OutputContract(name="y", datatype="FP32", shape=["batch", 2])],
        pipeline=TensorPipeline(),
        batchable=True,
    )
    with pytest.raises(ValueError, match="no features for a pipeline of kind 'tensor'"):
        make_features(contract, [])


@given(rows=st.integers(0, 70), size=st.integers(2, 20), seed=st.integers(0, 5))
def test_shuffled_batches_hold_each_row_once(rows: int, size: int, seed: int) -> None:
    """None has a single row unless there is no other, and none is over the size by more than it."""
    batches = list(shuffled(rows, size, np.random.default_rng(seed)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert all(len(batch) <= size + 1 for batch in batches)
    assert rows < 2 or all(len(batch) > 1 for batch in batches)


def test_each_epoch_has_an_order_of_its_own() -> None:
    """The generator goes on; from the same seed it gives the same orders."""
    random, again = np.random.default_rng(1), np.random.default_rng(1)
    first, second = (np.concatenate(list(shuffled(30, 7, random))) for _ in range(2))
    assert not np.array_equal(first, second)
    assert np.array_equal(np.concatenate(list(shuffled(30, 7, again))), first)


def test_rows_in_order_stay_in_order() -> None:
    """The last batch is what is left."""
    assert [batch.tolist() for batch in in_order(5, 2)] == [[0, 1], [2, 3], [4]]
    assert list(in_order(0, 2)) == []
