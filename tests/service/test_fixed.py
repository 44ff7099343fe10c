"""Runs over tensors that keep their place; here that is the CPU's memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from service.fixed import FixedRuns, Place, why_not_recorded
from service.providers import Placement
from service.tensors import TensorSpec
from tests.support.models import write_doubler

X, Y = TensorSpec("x", "FP32", ("n", 2)), TensorSpec("y", "FP32", ("n", 2))
ON_DEVICE = Placement({"cuda": 3})


@pytest.fixture
def runs(tmp_path: Path) -> FixedRuns:
    """Return the runs of a model y = 2 x."""
    file = write_doubler(tmp_path / "m.onnx")
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return FixedRuns(session, (X,), (Y,), Place("cpu"))


def rows(count: int, start: int = 0) -> dict[str, np.ndarray]:
    """Return rows of numbers."""
    return {"x": np.arange(start, start + 2 * count, dtype=np.float32).reshape(count, 2)}


def test_prepared_sizes_are_answered_from_their_tensors(runs: FixedRuns) -> None:
    """Each answer is the asker's own: the next run of the size does not change it."""
    for size in (1, 4, 4):
        runs.prepare(size)
    assert runs.sizes == (1, 4)
    answers = [runs.run(rows(4, start), ["y"])[0] for start in (0, 100)]
    for answer, start in zip(answers, (0, 100), strict=True):
        np.testing.assert_array_equal(answer, 2 * rows(4, start)["x"])
    # An array whose rows do not lie one behind the other.
    sparse = {"x": rows(8)["x"][::2]}
    np.testing.assert_array_equal(runs.run(sparse, ["y"])[0], 2 * sparse["x"])


def test_another_size_is_run_all_the_same(runs: FixedRuns) -> None:
    """Nothing is recorded of it."""
    runs.prepare(4)
    np.testing.assert_array_equal(runs.run(rows(3), ["y"])[0], 2 * rows(3)["x"])
    assert runs.sizes == (4,)


def test_the_options_of_a_run_hold(runs: FixedRuns, capfd: pytest.CaptureFixture[str]) -> None:
    """They may serve several runs of different sizes, and a run that is told to end does."""
    runs.prepare(2)
    options = ort.RunOptions()
    for count in (2, 3, 2):
        np.testing.assert_array_equal(
            runs.run(rows(count), ["y"], options)[0], 2 * rows(count)["x"]
        )
    options.terminate = True
    for count in (2, 3):
        with pytest.raises(Exception, match="terminate"):
            runs.run(rows(count), ["y"], options)
    capfd.readouterr()


@pytest.mark.parametrize(
    ("inputs", "outputs", "placement", "words"),
    [
        ((X,), (Y,), ON_DEVICE, ""),
        (
            (X,),
            (Y,),
            Placement({"cpu": 2, "cuda": 1}, {"Shape": 2}),
            "2 nodes are on the CPU: Shape",
        ),
        ((TensorSpec("x", "FP32", ("n", "t")),), (Y,), ON_DEVICE, "'x' has a free axis"),
        ((X,), (TensorSpec("y", "FP32", ("n", -1)),), ON_DEVICE, "'y' has a free axis"),
        ((X,), (TensorSpec("y", "FP32", (1, 2)),), ON_DEVICE, "'y' has no axis of rows"),
        ((X,), (TensorSpec("y", "FP32", ("m", 2)),), ON_DEVICE, "the rows of 'y' are not counted"),
        ((TensorSpec("x", "BYTES", ("n", 1)),), (Y,), ON_DEVICE, "'x' is BYTES"),
        ((X, TensorSpec("o", "FP32", ("n",), optional=True)), (Y,), ON_DEVICE, "'o' has no axis"),
    ],
)
def test_what_can_be_recorded(
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    placement: Placement,
    words: str,
) -> None:
    """The same kernels over the same addresses: anything else is named."""
    reason = why_not_recorded(inputs, outputs, placement)
    assert words in reason
    assert bool(reason) == bool(words)
