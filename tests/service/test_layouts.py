"""The folders that a platform hands over, and the name under which their model is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.repository import Found, named, scan
from tests.support.models import write_doubler

ORDERED = "digits"


@pytest.mark.parametrize(
    ("files", "version"),
    [
        (["model.onnx"], 1),
        (["anything at all.onnx"], 1),
        (["1/model.onnx"], 1),
        (["3/model.onnx", "12/model.onnx"], 12),
        (["net/1/model.onnx"], 1),
        (["net/7/model.onnx", "net/config.pbtxt", ".cache/x"], 7),
        (["2/model.onnx", "config.pbtxt", "labels.txt"], 2),
    ],
)
def test_one_model_gets_the_name_that_was_ordered(
    tmp_path: Path, files: list[str], version: int
) -> None:
    """A file, a version, versions and a repository of one model are all served under one name."""
    for file in files:
        put(tmp_path / file)
    one = named(scan(tmp_path), ORDERED)[-1]
    assert (one.name, one.version, one.problem) == (ORDERED, version, "")
    assert one.model_file.read_bytes()


def test_several_models_keep_their_names(tmp_path: Path) -> None:
    """One name cannot stand for two models."""
    put(tmp_path / "a" / "1" / "model.onnx")
    put(tmp_path / "b.onnx")
    assert [one.name for one in named(scan(tmp_path), ORDERED)] == ["a", "b"]


def test_without_an_order_a_model_has_the_name_of_its_folder(tmp_path: Path) -> None:
    """A folder of versions is one model, not one model a version."""
    put(tmp_path / "net" / "1" / "model.onnx")
    put(tmp_path / "net" / "2" / "model.onnx")
    found = named(scan(tmp_path / "net"), "")
    assert [(one.name, one.version) for one in found] == [("net", 1), ("net", 2)]


def test_folders_with_numbers_among_others_are_models(tmp_path: Path) -> None:
    """A repository may hold a model called 1 as long as it holds others as well."""
    put(tmp_path / "1" / "model.onnx")
    put(tmp_path / "net" / "1" / "model.onnx")
    assert [one.name for one in scan(tmp_path)] == ["1", "net"]


def test_a_new_name_mends_nothing_else(tmp_path: Path) -> None:
    """A bad name is replaced, a bad order is told, a missing file stays missing."""
    put(tmp_path / "my net.onnx")
    (found,) = scan(tmp_path)
    assert found.problem
    assert named([found], ORDERED)[0].problem == ""
    assert "'no/name'" in named([found], "no/name")[0].problem
    missing = Found("net", 1, tmp_path, "no model.onnx")
    assert named([missing], ORDERED)[0].problem == "no model.onnx"


def put(file: Path) -> None:
    """Write a model, or an empty file of another kind."""
    if file.suffix == ".onnx":
        write_doubler(file)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
