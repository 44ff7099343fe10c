"""What the doctor finds, with children and environments made by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service.attempt import attempt
from service.doctor import Surroundings, Wish, examine
from service.isolation import Ended, run_module
from service.printing import write_doctor
from tests.support import models

CPU, GPU = {"onnxruntime": "1.32.0"}, {"onnxruntime-gpu": "1.31.1"}
LOADS = Ended(0, '{"loads": true, "reason": "", "missing": {}, "libraries": []}', "", 60)
CRASHES, HANGS = Ended(-11, "", "", 60), Ended(None, "", "", 60)


def no_cuda(*missing: str) -> Ended:
    """Return the end of a trial of CUDA that misses these libraries."""
    reason = "provider 'cuda': it did not load"
    found = {"loads": False, "reason": reason, "missing": dict.fromkeys(missing, "not there")}
    return Ended(0, json.dumps({**found, "libraries": []}), "", 60)


def proof(status: str, **more: object) -> Ended:
    """Return the end of a model's proof."""
    code = 1 if status == "failed" else 0
    return Ended(code, json.dumps({"models": [{"status": status, **more}]}), "", 300)


@dataclass
class Children:
    """Ends as they are scripted: one a provider, one a model's folder; remembers the calls."""

    providers: dict[str, Ended] = field(default_factory=lambda: {"cpu": LOADS})
    models: dict[str, Ended] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)

    def __call__(self, arguments: Sequence[str], seconds: float) -> Ended:
        self.calls.append(list(arguments))
        if arguments[0] == "service.attempt":
            return self.providers[arguments[1]]
        return self.models[Path(arguments[2]).parent.name]


def examined(
    children: Children, wheels: dict[str, str], wish: Wish | None = None, *, whole: bool = True
) -> dict[str, Any]:
    """Return the report on a machine without a GPU."""
    around = Surroundings(
        child=children,
        wheels=lambda: wheels,
        whole=lambda _: whole,
        gpus=list,
        places=list,
    )
    return examine(wish or Wish(), around)


def test_a_healthy_machine_without_a_gpu() -> None:
    """Cores, memory and the wheel are told; only the CPU is tried, and nothing is wrong."""
    children = Children()
    report = examined(children, CPU)
    assert report["problems"] == []
    assert [one["name"] for one in report["providers"]] == ["cpu"]
    assert report["cores"]["usable"] >= 1
    assert report["memory"]["total"] > 0
    assert report["wheels"] == CPU
    assert children.calls == [["service.attempt", "cpu"]]


def test_the_wheel_for_gpus_without_one() -> None:
    """CUDA is tried because it might be there; nobody wished for it, so that is no problem."""
    children = Children({"cpu": LOADS, "cuda": no_cuda("libcuda.so.1")})
    report = examined(children, GPU)
    assert [(one["name"], one["loads"]) for one in report["providers"]] == [
        ("cpu", True),
        ("cuda", False),
    ]
    assert report["problems"] == []


def test_cuda_wished_for_in_vain() -> None:
    """The problem is the engine's own reason."""
    children = Children({"cpu": LOADS, "cuda": no_cuda("libcuda.so.1")})
    (problem,) = examined(children, GPU, Wish(("cuda",)))["problems"]
    assert problem == "provider 'cuda': it did not load"


def test_cuda_with_the_cpu_behind_it() -> None:
    """The CPU stands in, as was asked."""
    children = Children({"cpu": LOADS, "cuda": no_cuda("libcuda.so.1")})
    assert examined(children, GPU, Wish(("cuda", "cpu")))["problems"] == []


def test_cuda_wished_for_with_the_wheel_for_cpus() -> None:
    """The wheel is the cause, and it comes first."""
    children = Children({"cpu": LOADS, "cuda": no_cuda()})
    problems = examined(children, CPU, Wish(("cuda",)))["problems"]
    assert "pip uninstall -y onnxruntime && pip install 'onnxport[gpu]'" in problems[0]
    assert problems[1:] == ["provider 'cuda': it did not load"]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (CRASHES, "provider 'cuda': the process was ended by SIGSEGV"),
        (HANGS, "provider 'cuda': did not end within 60 s"),
        (Ended(0, "noise", "", 60), "provider 'cuda': it said nothing"),
        (Ended(0, "[1]", "", 60), "provider 'cuda': it said nothing"),
    ],
)
def test_a_provider_that_ends_its_process(end: Ended, words: str) -> None:
    """The doctor lives to tell."""
    report = examined(Children({"cpu": LOADS, "cuda": end}), GPU, Wish(("cuda",)))
    assert report["problems"] == [words]


def test_both_wheels() -> None:
    """A problem, whatever still loads."""
    children = Children({"cpu": LOADS, "cuda": no_cuda()})
    (problem,) = examined(children, CPU | GPU)["problems"]
    assert "onnxruntime and onnxruntime-gpu are installed together" in problem


def test_no_wheel(tmp_path: Path) -> None:
    """Then there is nothing to try, and the one problem is told once."""
    models.picture_bundle(tmp_path)
    children = Children()
    (problem,) = examined(children, {}, Wish(repository=tmp_path))["problems"]
    assert "no ONNX Runtime is installed" in problem
    assert children.calls == []


def test_a_wheel_without_its_files() -> None:
    """What is left of two wheels after one was removed."""
    broken = Ended(1, "", "ImportError: no runtime", 60)
    problems = examined(Children({"cpu": broken}), CPU, whole=False)["problems"]
    assert "onnxruntime has lost its files" in problems[0]
    assert problems[1] == "provider 'cpu': ended with exit code 1: ImportError: no runtime"


def test_the_models_of_a_repository(tmp_path: Path) -> None:
    """Each is proved in a child of its own, on the providers wished for; a crash is one's own."""
    for write in (models.picture_bundle, models.series_bundle, models.text_bundle):
        write(tmp_path)
    (tmp_path / "empty" / "1").mkdir(parents=True)
    children = Children(
        models={
            "pictures": proof("passed", provider="cpu", vectors=16),
            "series": CRASHES,
            "texts": proof("failed", reason="not as recorded"),
        }
    )
    report = examined(children, CPU, Wish(("cpu",), tmp_path))
    nothing = f"{tmp_path / 'empty' / '1'}: no model.onnx"
    by_name = {one["name"]: one for one in report["models"]}
    assert by_name["pictures"]["provider"] == "cpu"
    assert by_name["pictures"]["path"] == str(tmp_path / "pictures" / "1")
    assert [problem.partition(" does not load: ") for problem in report["problems"]] == [
        ("model 'empty' version 1", " does not load: ", nothing),
        ("model 'series' version 1", " does not load: ", "the process was ended by SIGSEGV"),
        ("model 'texts' version 1", " does not load: ", "not as recorded"),
    ]
    assert all(call[3:5] == ["--providers", "cpu"] for call in children.calls if len(call) > 2)


def test_a_repository_without_models(tmp_path: Path) -> None:
    """Models are wished for, and there are none."""
    (empty,) = examined(Children(), CPU, Wish(repository=tmp_path))["problems"]
    (missing,) = examined(Children(), CPU, Wish(repository=tmp_path / "no"))["problems"]
    assert empty == f"{tmp_path}: holds no model"
    assert str(tmp_path / "no") in missing


def test_the_cpu_is_really_tried() -> None:
    """In a child, where the answer is the same as here."""
    ended = run_module(["service.attempt", "cpu"], 120)
    assert json.loads(ended.out)["loads"] is True
    assert attempt("cpu")["reason"] == ""


def test_what_cannot_load_is_really_tried() -> None:
    """The reason is the engine's, and what the loader does not find is named."""
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine may have what is to be missing here")
    report = attempt("cuda")
    assert "provider 'cuda'" in str(report["reason"])
    assert isinstance(report["missing"], dict)
    assert "libcuda.so.1" in report["missing"]


def test_a_report_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was found, the models in a line each, and the problems at the end."""
    models.picture_bundle(tmp_path)
    models.write_doubler(tmp_path / "bare.onnx")
    children = Children(
        {"cpu": LOADS, "cuda": no_cuda("libcuda.so.1")},
        {
            "pictures": proof("failed", reason="not as recorded"),
            tmp_path.name: proof("skipped", reason="no proof", provider="cpu"),
        },
    )
    report = examined(children, GPU, Wish(repository=tmp_path))
    report["libraries"] = [{"name": "libcudart.so.13", "version": "13.0", "path": "/x/libcudart"}]
    report["gpus"] = [{"name": "H200", "driver": "580", "memory": "141 GB"}]
    write_doctor(report)
    out = capsys.readouterr().out
    for words in (
        "onnxruntime-gpu 1.31.1",
        "13.0  /x/libcudart",
        "H200, 141 GB, driver 580",
        "bare version 1: skipped: no proof, loads on cpu",
        "pictures version 1: failed: not as recorded\n",
    ):
        assert words in out
    assert out.rstrip().endswith(
        "problem: model 'pictures' version 1 does not load: not as recorded"
    )
