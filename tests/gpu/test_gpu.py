"""What is promised of a GPU, on a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models import SAMPLES, Subject
from benchmarks.networks import halved
from service.device import DeviceEngine, DeviceHealth
from service.engine import EngineOptions, OrtEngine
from service.errors import DeviceFull, ProviderUnavailable
from service.isolation import run_module
from service.likeness import distances
from service.loader import LoadOptions, load_model
from service.repository import scan
from service.tensors import Tensor
from service.tuning import TuningOptions
from tests.support import models

pytestmark = pytest.mark.gpu

CUDA, CPU = EngineOptions(("cuda",)), EngineOptions(("cpu",))
SIZES = (1, 2, 4, 8, 16)


def answers(file: Path, subject: Subject, options: EngineOptions, rows: int = SAMPLES) -> Tensor:
    """Return what a model answers to sample rows."""
    engine = OrtEngine(str(file), options)
    name = engine.outputs[0].name
    batch = subject.collate([n % SAMPLES for n in range(rows)])
    engine.warm_up([batch] * 3)
    found = engine.run(batch, [name])[name]
    engine.close()
    return found


def test_cuda_is_used_and_answers_as_the_cpu_does(subject: Subject) -> None:
    """It takes the nodes, its options are read back, and without TF32 the answers are alike."""
    engine = OrtEngine(str(subject.file), CUDA)
    seen = engine.as_opened()
    assert engine.provider == "cuda"
    assert seen["fell_back"] is False
    assert seen["provider_options_unconfirmed"] == {}
    nodes = seen["nodes"]
    assert isinstance(nodes, dict)
    assert nodes["cuda"] > nodes.get("cpu", 0)
    engine.close()
    cuda, cpu = (answers(subject.file, subject, options) for options in (CUDA, CPU))
    assert distances(cuda, cpu)[0] < 1e-3
    np.testing.assert_array_equal(cuda.argmax(-1), cpu.argmax(-1))


def test_the_devices_memory_is_told(resnet: Subject) -> None:
    """Before and after the load, which takes some."""
    devices = OrtEngine(str(resnet.file), CUDA).as_opened()["devices"]
    assert isinstance(devices, list)
    assert any(one["used_bytes_after_load"] > one["used_bytes_before_load"] for one in devices)
    assert all(one["driver"] for one in devices)


def test_recorded_runs_answer_as_others_do(subject: Subject) -> None:
    """At each size that was prepared, or the model is refused with the reason."""
    options = replace(CUDA, cuda_graphs=True)
    try:
        engine = OrtEngine(str(subject.file), options)
    except ProviderUnavailable as error:
        assert "cuda_graphs: " in str(error)  # noqa: PT017 - either is right, by model
        return
    plain = OrtEngine(str(subject.file), CUDA)
    name = engine.outputs[0].name
    batches = [subject.collate(range(rows)) for rows in SIZES]
    engine.warm_up([batch for batch in batches for _ in range(3)])
    for batch in (*batches, *reversed(batches), subject.collate(range(3))):
        one, other = (each.run(batch, [name])[name] for each in (engine, plain))
        assert distances(one, other)[0] < 1e-5


def test_half_precision_is_near(subject: Subject, tmp_path: Path) -> None:
    """Inputs and outputs stay whole; the answers of these untrained networks differ a little."""
    half = tmp_path / "half.onnx"
    half.write_bytes(halved(subject.file.read_bytes()))
    one, other = answers(half, subject, CUDA), answers(subject.file, subject, CPU)
    assert distances(one, other)[0] < 5e-2


def test_memory_that_runs_out_and_comes_back(resnet: Subject) -> None:
    """What does not fit under a limit is run in fewer rows at once, or refused until it is."""
    limited = replace(CUDA, provider={"gpu_mem_limit": str(256 << 20)})
    inner = OrtEngine(str(resnet.file), limited)
    engine = DeviceEngine(inner, DeviceHealth(), max_rows=256, batchable=True)
    name = engine.outputs[0].name
    large = resnet.collate([n % SAMPLES for n in range(256)])
    for _ in range(8):
        try:
            found = engine.run(large, [name])[name]
            break
        except DeviceFull:
            continue
    else:
        pytest.fail("no cap was low enough")
    assert engine.rows_cap < 256
    expected = answers(resnet.file, resnet, CPU)
    assert distances(found[:SAMPLES], expected)[0] < 1e-3
    assert distances(found[-SAMPLES:], expected)[0] < 1e-3


def test_a_broken_device_is_lost_for_good(tmp_path: Path) -> None:
    """A trap in a kernel poisons the process: every later run says so, none answers."""
    file = models.write_doubler(tmp_path / "m.onnx")
    ended = run_module(["tests.gpu.trap", str(file)], 120)
    assert ended.out.split() == ["lost", "lost"], ended


def test_a_bundle_is_proved_on_the_device(tmp_path: Path) -> None:
    """Golden vectors, calibration, warm-up, and how far the CPU is."""
    models.text_bundle(tmp_path)
    (found,) = scan(tmp_path)
    options = LoadOptions(
        replace(CUDA, providers=("cuda", "cpu")), tuning=TuningOptions(calibrate=True)
    )
    loaded = load_model(found, options, lambda _: None)
    runtime = loaded.info["runtime"]
    assert isinstance(runtime, dict)
    if runtime["provider"] == "cuda":
        assert runtime["difference_to_cpu"]["labels_changed"] == 0
    loaded.engine.close()
