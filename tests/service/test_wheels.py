"""One right wheel of ONNX Runtime, or the command that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import ProviderUnavailable
from service.wheels import check_wheels, installed_wheels, wheel_problem
from tests.support.runtime import write_distribution

CPU, GPU = {"onnxruntime": "1.32.0"}, {"onnxruntime-gpu": "1.31.1"}


def whole(wheel: str) -> bool:
    """Say that all files are there."""
    return True


@pytest.mark.parametrize(
    ("found", "providers"),
    [
        (CPU, ("auto",)),
        (CPU, ("cpu",)),
        (CPU, ("cuda", "cpu")),
        (GPU, ("auto",)),
        (GPU, ("cuda",)),
        (GPU, ("cpu",)),
    ],
)
def test_one_wheel_that_will_do(found: dict[str, str], providers: tuple[str, ...]) -> None:
    """The GPU's runs on a CPU too; the CPU's will do wherever CUDA is not the only choice."""
    assert wheel_problem(found, providers, whole) == ""


def test_cuda_without_its_wheel() -> None:
    """The remedy takes the other wheel away first, for both own the same folder."""
    problem = wheel_problem(CPU, ("cuda",), whole)
    assert "provider 'cuda' needs onnxruntime-gpu, onnxruntime is installed" in problem
    assert problem.endswith("pip uninstall -y onnxruntime && pip install 'onnxport[gpu]'")


def test_several_wheels() -> None:
    """Whichever was written last would answer, so neither does; all go before one comes back."""
    problem = wheel_problem(CPU | GPU, ("auto",), whole)
    assert "onnxruntime and onnxruntime-gpu are installed together" in problem
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install" in problem


def test_no_wheel() -> None:
    """There are two to choose from."""
    problem = wheel_problem({}, ("auto",), whole)
    assert "no ONNX Runtime is installed" in problem
    assert "onnxport[cpu]" in problem
    assert "onnxport[gpu]" in problem


def test_a_wheel_without_its_files() -> None:
    """What is left when one of two wheels was removed only looks like the other."""
    problem = wheel_problem(GPU, ("auto",), lambda _: False)
    assert "onnxruntime-gpu has lost its files" in problem
    assert "pip uninstall -y onnxruntime-gpu && pip install" in problem


def test_the_wheel_of_these_tests_will_do() -> None:
    """It is found by its own name, with its files."""
    assert len(installed_wheels()) == 1
    check_wheels()


def test_wheels_over_each_other_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what pip leaves behind of each."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("onnxruntime", "onnxruntime-gpu"):
        write_distribution(tmp_path, name)
    with pytest.raises(ProviderUnavailable, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        check_wheels()


def test_a_removed_wheel_is_found(tmp_path: Path) -> None:
    """A package that only its metadata speak of is not there."""
    write_distribution(tmp_path, "onnxruntime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.path", [str(tmp_path)])
        assert "has lost its files" in wheel_problem(installed_wheels())
