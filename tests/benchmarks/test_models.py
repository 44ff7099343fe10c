"""The models that are measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.cases import SMALL
from benchmarks.checks import difference, require_distinct
from benchmarks.errors import BenchmarkError
from benchmarks.models import SAMPLES, answers, copy_repository, subjects
from tests.support import models

NOWHERE = Path("nowhere")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the synthetic models."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", SMALL)
def test_a_synthetic_model_answers_each_row_alone_as_in_a_batch(name: str, cache: Path) -> None:
    """And each of its samples in its own way."""
    (subject,) = subjects([name], cache, NOWHERE)
    alone = answers(subject, subject.batches(1))
    require_distinct(name, alone)
    (together,) = answers(subject, [subject.collate(range(SAMPLES))])
    for i, each in enumerate(alone):
        assert not difference(each, {key: value[i : i + 1] for key, value in together.items()})


def test_a_synthetic_model_is_the_same_wherever_it_is_made(cache: Path, tmp_path: Path) -> None:
    """Its weights are seeded."""
    first, second = (subjects(["cnn"], folder, NOWHERE)[0] for folder in (cache, tmp_path))
    assert first.file != second.file
    assert first.file.read_bytes() == second.file.read_bytes()


def test_batches_of_many_rows_differ_from_each_other(cache: Path) -> None:
    """32 rows are made of the samples in turn, begun at another one each time."""
    (subject,) = subjects(["cnn"], cache, NOWHERE)
    batches = subject.batches(32)
    assert len(batches) == SAMPLES
    assert batches[0]["images"].shape == (32, 3, 32, 32)
    assert not np.array_equal(batches[0]["images"], batches[1]["images"])


def test_a_bundle_is_measured_with_its_golden_inputs(tmp_path: Path) -> None:
    """After the pipeline, because the protocol speaks the graph's tensors."""
    models.series_bundle(tmp_path, "vowels")
    (subject,) = subjects(["vowels"], NOWHERE, tmp_path)
    batch = subject.collate([0, 3])
    assert batch["values"].shape == (2, 4, 2)
    assert batch["lengths"].tolist() == [1, 4]


def test_a_repository_holds_the_chosen_models_alone(cache: Path, tmp_path: Path) -> None:
    """Each under its name and version."""
    chosen = subjects(["cnn", "rnn"], cache, NOWHERE)
    copy_repository(chosen[:1], tmp_path)
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.onnx")] == [
        "cnn/1/model.onnx"
    ]


def test_a_missing_bundle_is_told_with_what_to_do(tmp_path: Path) -> None:
    """Training makes it."""
    with pytest.raises(BenchmarkError, match=r"no bundle of 'mails' .*make train"):
        subjects(["mails"], NOWHERE, tmp_path)
