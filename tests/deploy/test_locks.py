"""The locks of the images agree with what the project says it needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_ROOT = Path(__file__).parents[2]
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+)(?: ; (.*?))? *\\?$", re.MULTILINE)
LOCKS = {"cpu": ("cpu",), "gpu": ("gpu",), "train": ("cpu", "train")}


def lock(name: str) -> str:
    """Return the text of a lock."""
    return (_ROOT / f"requirements/{name}.txt").read_text()


def pins(text: str) -> dict[str, Version]:
    """Return what a lock installs on the machine of the images, Linux on an x86-64."""
    machine = {"python_full_version": "3.11.9", "python_version": "3.11", "sys_platform": "linux"}
    machine |= {"platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix"}
    machine |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    found: dict[str, Version] = {}
    for name, version, marker in _PIN.findall(text):
        requirement = Requirement(f"{name}; {marker}" if marker else name)
        if requirement.marker is None or requirement.marker.evaluate(dict(machine)):
            found[canonicalize_name(name)] = Version(version)
    return found


def wanted(extras: tuple[str, ...]) -> list[Requirement]:
    """Return what pyproject.toml asks for with these extras."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("name", LOCKS)
def test_each_lock_holds_what_the_project_needs_within_its_bounds(name: str) -> None:
    """Who changes pyproject.toml and forgets scripts/lock is told here."""
    found = pins(lock(name))
    for requirement in wanted(LOCKS[name]):
        version = found.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in {name}.txt: run scripts/lock"
        assert requirement.specifier.contains(version), f"{requirement} has {version}"


@pytest.mark.parametrize("name", [*LOCKS, "build"])
def test_every_package_of_a_lock_has_hashes(name: str) -> None:
    """Pip installs nothing else then; no address says where from."""
    text = lock(name)
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)
    assert len(entries) > 4
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_no_server_has_torch_and_no_two_runtimes_meet() -> None:
    """The trainer alone has torch, built without CUDA; ONNX Runtime's wheels exclude each other."""
    cpu, gpu, train = (pins(lock(name)) for name in LOCKS)
    assert "torch" not in cpu
    assert "torch" not in gpu
    assert train["torch"].local == "cpu"
    assert not [name for name in train if name.startswith("nvidia")]
    assert "onnxruntime" not in gpu
    assert "onnxruntime-gpu" not in cpu
