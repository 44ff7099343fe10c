"""What `training.machine` promises."""

from __future__ import annotations

import getpass
import os
import platform
from pathlib import Path

import pytest
import torch

from training.machine import cpu_model, describe_machine, usable_cores


def test_the_processor_is_named_as_the_system_names_it(tmp_path: Path) -> None:
    """The first model name counts."""
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nmodel name\t: Great CPU @ 3 GHz\nmodel name : other\n")
    assert cpu_model(file) == "Great CPU @ 3 GHz"


def test_an_unnamed_processor_is_its_architecture(tmp_path: Path) -> None:
    """Where there is no name, or no such file, the architecture stands for it."""
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\n")
    assert cpu_model(file) == cpu_model(tmp_path / "none") == platform.machine()


def test_cores_are_counted_where_they_are_not_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every system says which of its cores a process may use."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == os.cpu_count()


def test_the_machine_is_described_without_names_of_people_or_hosts() -> None:
    """Cores, threads and versions are there; host and user are not."""
    described = describe_machine(torch.device("cpu"))
    assert described["torch"] == torch.__version__
    assert int(described["cores"]) >= 1
    assert not {"host", "user", "node"} & described.keys()
    values = {str(value) for value in described.values()}
    assert not {platform.node(), getpass.getuser()} & values
