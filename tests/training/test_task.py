"""What `training.task` promises: a recipe and its data become one value, or are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.data import DataError
from training.task import choose_device, make_task, use_threads

from .tiny import FAMILIES, TRAIN, tiny_recipe

CUDA = torch.cuda.is_available()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_task_holds_what_follows_from_recipe_and_data(
    roots: dict[str, Path], family: str
) -> None:
    """Its network takes a batch of its own split and answers with a logit for each class."""
    task = make_task(tiny_recipe(family, roots[family]))
    split = task.split(task.dataset.train)
    logits = task.build()(*split.features.batch(np.arange(5)))[0]
    assert logits.shape == (5, 2)
    assert len(split.features) == len(split.labels) == 2 * TRAIN
    assert task.contract.labels == list(task.dataset.classes)
    assert (task.plan(3).seed, task.plan(3).device) == (3, torch.device("cpu"))


@pytest.mark.parametrize(
    ("family", "data", "message"),
    [
        ("cnn", "rnn", "model.family 'cnn' does not take data of kind 'sequence'; rnn does"),
        ("cnn", "attention", "'cnn' does not take data of kind 'text'; attention does"),
        ("rnn", "attention", "'rnn' does not take data of kind 'text'; attention does"),
        ("attention", "cnn", "does not take data of kind 'image'; cnn or cnn-article does"),
    ],
)
def test_a_family_that_does_not_take_the_data_is_refused_with_what_does(
    roots: dict[str, Path], family: str, data: str, message: str
) -> None:
    """Before anything is trained, and whatever the kinds."""
    formats = {"cnn": "images", "rnn": "series", "attention": "texts"}
    recipe = tiny_recipe(
        family, roots[data], f"data.format={formats[data]}", "data.split_column=", "data.classes=[]"
    )
    with pytest.raises(ValueError, match=message):
        make_task(recipe)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("rnn", "augment.image.flip=0.5", "augment.image varies pictures, the data are .*sequence"),
        ("attention", "augment.image.shift=1", "augment.image varies pictures, .*'text'"),
        ("cnn", "augment.series.noise=0.1", "augment.series varies series, the data are .*image"),
        ("attention", "augment.series.crop=0.1", "augment.series varies series, .*'text'"),
    ],
)
def test_variations_of_another_kind_of_data_are_refused(
    roots: dict[str, Path], family: str, change: str, message: str
) -> None:
    """A setting that would do nothing is a mistake."""
    with pytest.raises(ValueError, match=message):
        make_task(tiny_recipe(family, roots[family], change))


def test_pictures_too_small_for_the_network_are_refused(roots: dict[str, Path]) -> None:
    """The error names the size seen and the least that is needed."""
    task = make_task(tiny_recipe("cnn-article", roots["cnn"]))
    with pytest.raises(ValueError, match=r"pictures of 8x8 are too small: .* needs 18x18"):
        task.build()


def test_data_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(DataError, match="nowhere: there is no such file or folder"):
        make_task(tiny_recipe("rnn", tmp_path / "nowhere"))


@pytest.mark.parametrize("family", ["cnn", "rnn"])
def test_a_batch_is_varied_as_the_recipe_says(roots: dict[str, Path], family: str) -> None:
    """Pictures and series move, and their labels stay."""
    task = make_task(tiny_recipe(family, roots[family]))
    split = task.split(task.dataset.train)
    inputs, labels = split.features.batch(np.arange(6)), split.labels[:6]
    varied, kept = task.augment(inputs, labels)
    assert len(varied) == len(inputs)
    assert not torch.equal(varied[0], inputs[0])
    assert torch.equal(kept, labels)


def test_texts_are_not_varied(roots: dict[str, Path]) -> None:
    """What is hidden of a text is the network's own affair."""
    task = make_task(tiny_recipe("attention", roots["attention"]))
    split = task.split(task.dataset.train)
    inputs = split.features.batch(np.arange(6))
    assert torch.equal(task.augment(inputs, split.labels[:6])[0][0], inputs[0])


def test_the_loss_is_shaped_by_the_training_rows(roots: dict[str, Path]) -> None:
    """With a prior, logits that say what the rows' shares say leave nothing but chance."""
    task = make_task(tiny_recipe("attention", roots["attention"]))
    train = task.dataset.train
    uneven = train.take([*np.flatnonzero(train.labels == 0), np.flatnonzero(train.labels == 1)[0]])
    problem = task.problem(uneven, None)
    shares = torch.tensor([TRAIN / (TRAIN + 1), 1 / (TRAIN + 1)])
    loss = problem.loss(-shares.log().repeat(2, 1), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(np.log(2))
    assert problem.validation is None


def test_validation_rows_are_a_split_of_their_own(roots: dict[str, Path]) -> None:
    """They keep their labels."""
    task = make_task(tiny_recipe("rnn", roots["rnn"]))
    problem = task.problem(task.dataset.train, task.dataset.test)
    assert problem.validation is not None
    assert problem.validation.labels.tolist() == task.dataset.test.labels.tolist()


def test_the_device_is_what_was_asked_for() -> None:
    """Left open it is the GPU, where there is one."""
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if CUDA else "cpu")


@pytest.mark.skipif(CUDA, reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    """A run never ends up somewhere else than asked for."""
    with pytest.raises(ValueError, match=r"train\.device is 'cuda'"):
        choose_device("cuda")


def test_threads_are_those_asked_for_or_every_core() -> None:
    """0 stands for all cores that this process may use."""
    try:
        use_threads(2)
        assert torch.get_num_threads() == 2
        use_threads(0)
        assert torch.get_num_threads() >= 1
    finally:
        use_threads(1)
