"""The measurement of models on a device, tried on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import networks
from benchmarks.device import NO_DEVICE, Figures, Wish, apart, main, measure, table
from benchmarks.models import SYNTHETIC
from service.cuda import look, why_not


def test_a_model_is_measured(tmp_path: Path) -> None:
    """In a process of its own, at each size, and compared with the CPU: here with itself."""
    found = apart(Wish("cnn", "fp32", "cpu", (1, 3), tmp_path))
    assert found.problem == ""
    assert set(found.p50) == {1, 3}
    assert min(found.load, found.first, *found.p50.values()) > 0
    assert found.nodes["cpu"] > 5
    assert (found.max_abs, found.max_rel, found.labels_changed) == (0, 0, 0)


def test_a_provider_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    """It is told in the row of the model."""
    if not why_not(look()):
        pytest.skip("this machine has CUDA")
    found = measure(Wish("cnn", "fp32", "cuda", (1,), tmp_path))
    assert "provider 'cuda'" in found.problem
    assert "provider 'cuda'" in table([found], (1,))


def test_the_table() -> None:
    """Milliseconds, the best rate, and what runs where."""
    found = Figures("cnn", "fp32", "", 1.5, 0.25, {1: 0.001, 8: 0.002}, {"cuda": 9}, 1e-6, 2e-5, 1)
    line = table([found], (1, 8)).splitlines()[-1]
    assert line == (
        "| cnn | fp32 | 1.50 | 250.0 | 1.000 | 2.000 | 4,000 | cuda 9 | 1e-06 | 2e-05 | 1/16 | 0 |"
    )


def test_no_device_is_an_exit_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is told, so that a script can skip."""
    if not why_not(look()):
        pytest.skip("this machine has CUDA")
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == NO_DEVICE
    assert "there is no NVIDIA driver" in capsys.readouterr().err


@pytest.mark.parametrize("name", SYNTHETIC)
def test_networks_in_half_precision(name: str) -> None:
    """The file is valid, its weights are halved, and inputs and outputs are as they were."""
    whole = getattr(networks, name)()
    half = networks.halved(whole)
    assert len(half) < 0.55 * len(whole)
    first, second = (onnx.load_from_string(content).graph for content in (whole, half))
    assert list(first.input) == list(second.input)
    assert list(first.output) == list(second.output)
    kinds = {w.data_type for w in second.initializer} - {onnx.TensorProto.INT64}
    assert kinds == {onnx.TensorProto.FLOAT16}
    onnx.shape_inference.infer_shapes(onnx.load_from_string(half), strict_mode=True)
    assert np.isfinite([onnx.numpy_helper.to_array(w).max() for w in second.initializer]).all()
