"""What the tests on a GPU share."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import onnxruntime as ort
import pytest

from benchmarks.models import Subject, subjects
from service.cuda import look, why_not


@cache
def why_no_gpu() -> str:
    """Return why nothing can run on a GPU here, "" if it can."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "the installed ONNX Runtime has no CUDA; install 'onnxport[gpu]'"
    ort.preload_dlls()
    return why_not(look())


@pytest.fixture(autouse=True)
def _needs_gpu() -> None:
    if reason := why_no_gpu():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the synthetic models are built, once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(params=["cnn", "rnn", "attention", "resnet18"])
def subject(request: pytest.FixtureRequest, cache_folder: Path) -> Subject:
    """Return each of the models."""
    (found,) = subjects([request.param], cache_folder, Path("models"))
    return found


@pytest.fixture
def resnet(cache_folder: Path) -> Subject:
    """Return the largest of them."""
    (found,) = subjects(["resnet18"], cache_folder, Path("models"))
    return found
