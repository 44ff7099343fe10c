"""What `training.gate` promises, on plain numbers."""

from __future__ import annotations

import numpy as np
import pytest

from service.contract import Contract, InputContract, OutputContract, TensorPipeline
from training.gate import (
    Demand,
    Difference,
    Gain,
    Speed,
    check,
    clearest,
    difference,
    lower_contract,
)
from training.parity import ExportError
from training.statistics import Floats

CONTRACT = Contract(
    task="classification",
    inputs=[InputContract(name="x", datatype="FP32", shape=["batch", 2])],
    outputs=[OutputContract(name="y", datatype="FP32", shape=["batch", 2])],
    pipeline=TensorPipeline(),
    labels=["a", "b"],
    batchable=True,
)


def chances(*first: float) -> Floats:
    """Return the probabilities of two classes, from those of the first."""
    column = np.array(first, np.float64)
    return np.stack((column, 1 - column), 1)


def found(before: float, after: float) -> Difference:
    """Return a comparison with these accuracies."""
    return Difference("validation", 1000, before, after, 0.25, 7)


def gain(fp32: Speed, lower: Speed) -> Gain:
    """Return the two speeds beside each other."""
    return Gain(fp32, lower)


def test_two_precisions_are_compared_row_by_row() -> None:
    """Accuracies, changed labels and the largest difference; a change may be for the better."""
    before, after = chances(0.9, 0.6, 0.4, 0.25), chances(0.65, 0.4, 0.45, 0.25)
    assert difference("test", before, after, np.array([0, 1, 1, 0])) == Difference(
        split="test",
        rows=4,
        accuracy_fp32=0.5,
        accuracy=0.75,
        max_abs=0.25,
        labels_changed=1,
    )


def test_answers_that_are_no_numbers_are_refused() -> None:
    """A half-precision sum may overflow; no accuracy hides that."""
    after = chances(0.9, float("nan"), float("inf"))
    with pytest.raises(ExportError, match="2 of 3 test rows have answers that are no numbers"):
        difference("test", chances(0.9, 0.9, 0.9), after, np.array([0, 0, 0]))


def test_a_loss_within_the_margin_passes() -> None:
    """Exactly the margin too, and of course a win."""
    check(Demand("int8", margin=0.005), found(0.95, 0.945), None)
    check(Demand("int8", margin=0.0), found(0.95, 0.96), None)


def test_a_loss_beyond_the_margin_is_refused_with_the_figures() -> None:
    """All of them, so that a person can judge the margin."""
    with pytest.raises(ExportError) as refused:
        check(Demand("int8", margin=0.005), found(0.95, 0.944), None)
    assert str(refused.value) == (
        "int8 loses 0.0060 of accuracy, margin=0.005 is allowed: accuracy 0.9440, 0.9500 in FP32, "
        "on 1000 validation rows; 7 of 1000 labels changed, largest difference 0.25"
    )


def test_a_gain_that_is_too_small_is_refused() -> None:
    """Only if one was demanded."""
    small = gain(Speed(2.0, 1.0), Speed(1.6, None))
    check(Demand("int8"), found(0.9, 0.9), small)
    check(Demand("int8", speedup=1.25), found(0.9, 0.9), small)
    with pytest.raises(ExportError, match=r"1\.25 times as fast, speedup=1\.5 is demanded: 1\.600"):
        check(Demand("int8", speedup=1.5), found(0.9, 0.9), small)


def test_a_busy_server_runs_rows_together_where_it_may() -> None:
    """So what makes a lone row faster may make it slower."""
    lone = gain(Speed(2.0, 0.5), Speed(1.0, None))
    assert (lone.alone, lone.served) == (2.0, 0.5)
    assert Speed(1.0, 3.0).served_ms == 1.0


def test_rows_that_depend_on_their_neighbours_run_alone() -> None:
    """The contract says so, with tolerances that hold for 8-bit scales."""
    own = lower_contract(CONTRACT, Demand("int8"), 0.01)
    assert not own.batchable
    assert (own.answer.atol, own.answer.rtol) == (2e-3, 1e-2)


def test_rows_that_do_not_run_together_as_before() -> None:
    """A table of embeddings is only read: the same sums follow, so the tolerance stays too."""
    assert lower_contract(CONTRACT, Demand("int8", rows="together"), 1e-7) == CONTRACT


def test_rows_that_must_stay_together_and_do_not_are_refused() -> None:
    """Rather than served alone without a word."""
    with pytest.raises(ExportError, match=r"rows=together: .* by 0\.01"):
        lower_contract(CONTRACT, Demand("int8", rows="together"), 0.01)


def test_half_precision_keeps_rows_together_within_its_rounding() -> None:
    """Other batches take other kernels; tolerances are those of FP16, never tighter than before."""
    assert lower_contract(CONTRACT, Demand("fp16"), 1e-3).batchable
    assert not lower_contract(CONTRACT, Demand("fp16"), 1e-1).batchable
    loose = CONTRACT.outputs[0].model_copy(update={"atol": 0.5})
    own = lower_contract(CONTRACT.model_copy(update={"outputs": [loose]}), Demand("fp16"), 0)
    assert (own.answer.atol, own.answer.rtol) == (0.5, 1e-2)


@pytest.mark.parametrize("wrong", [{"rows": "together"}, {"speedup": 1.5}])
def test_what_half_precision_does_not_know_is_refused(wrong: dict[str, object]) -> None:
    """It has no tables to choose, and a CPU says nothing about a GPU's speed."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Demand("fp16", **wrong)  # type: ignore[arg-type]  # told apart by name


def test_golden_rows_are_those_answered_clearly() -> None:
    """In their order; a near tie only where there are too few."""
    answers = chances(0.5, 0.9, 0.52, 0.1, 0.8)
    assert clearest(answers, 3, 0.1) == [1, 3, 4]
    assert clearest(answers, 2, 0.1) == [1, 3]
    assert clearest(answers, 4, 0.1) == [1, 2, 3, 4]
