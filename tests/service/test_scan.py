"""What is found on disk: every version, with the rules and the troubles of its model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.repository import Found, scan
from service.serving import All, ServingRules
from tests.support.loads import put_model


def found(repository: Path) -> dict[tuple[str, int], Found]:
    """Return what is found by name and version."""
    return {(one.name, one.version): one for one in scan(repository)}


def test_every_version_is_found(tmp_path: Path) -> None:
    """Versions are numbers and sorted as such; other folders and hidden ones are none."""
    put_model(tmp_path, "b", versions=[10, 9, 1])
    put_model(tmp_path, "a")
    for name in ("02", "latest", ".3", "0"):
        (tmp_path / "b" / name).mkdir()
    (tmp_path / "empty").mkdir()
    assert [(one.name, one.version) for one in scan(tmp_path)] == [
        ("a", 1), ("b", 1), ("b", 9), ("b", 10),
    ]  # fmt: skip


def test_a_version_without_a_model(tmp_path: Path) -> None:
    """A folder that is still being filled is listed, with what it lacks."""
    put_model(tmp_path)
    (tmp_path / "m" / "2").mkdir()
    assert "no model.onnx" in found(tmp_path)["m", 2].problem
    assert found(tmp_path)["m", 1].problem == ""


def test_the_rules_of_a_model_are_those_of_each_version(tmp_path: Path) -> None:
    """serving.toml lies beside the versions and concerns its own model only."""
    put_model(tmp_path, "a", versions=[1, 2])
    put_model(tmp_path, "b")
    (tmp_path / "a" / "serving.toml").write_text('versions = "all"')
    rules = {key: one.rules for key, one in found(tmp_path).items()}
    assert rules == {
        ("a", 1): ServingRules(All()),
        ("a", 2): ServingRules(All()),
        ("b", 1): ServingRules(),
    }


def test_a_broken_file_is_the_problem_of_its_model(tmp_path: Path) -> None:
    """The others are found as ever."""
    put_model(tmp_path, "a")
    put_model(tmp_path, "b")
    (tmp_path / "a" / "serving.toml").write_text("versoins = 1")
    assert found(tmp_path)["a", 1].problem.endswith(
        "a/serving.toml: unknown key 'versoins'; did you mean versions?"
    )
    assert found(tmp_path)["b", 1].problem == ""


def test_a_config_of_triton_is_noted(tmp_path: Path) -> None:
    """Somebody wrote it, so it should be said that it does nothing."""
    put_model(tmp_path, "a")
    put_model(tmp_path, "b")
    (tmp_path / "a" / "config.pbtxt").touch()
    (note,) = found(tmp_path)["a", 1].notes
    assert "config.pbtxt is ignored" in note
    assert found(tmp_path)["b", 1].notes == ()


def test_a_model_without_version_folders_has_rules_too(tmp_path: Path) -> None:
    """Its file and its serving.toml lie side by side; it is version 1."""
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "model.onnx").touch()
    (tmp_path / "flat" / "serving.toml").write_text('verify = "off"')
    assert found(tmp_path)["flat", 1].rules.verify == "off"
    (one,) = scan(tmp_path / "flat")
    assert (one.name, one.version, one.rules.verify) == ("flat", 1, "off")


def test_a_version_that_is_named_itself_is_served_whatever_the_rules_say(tmp_path: Path) -> None:
    """The path is the decision, so the rules of the other versions do not count."""
    model = put_model(tmp_path, versions=[1, 2])
    (model / "serving.toml").write_text("versions = {specific = [1]}")
    (one,) = scan(model / "2")
    assert (one.name, one.version, one.rules) == ("m", 2, ServingRules())


def test_a_folder_and_a_file_of_one_name(tmp_path: Path) -> None:
    """The folder has the name; versions of two models are never mixed."""
    put_model(tmp_path, versions=[2, 3])
    (tmp_path / "m.onnx").touch()
    assert list(found(tmp_path)) == [("m", 2), ("m", 3)]


def test_a_folder_that_cannot_be_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is that model's problem."""
    put_model(tmp_path, "a")
    put_model(tmp_path, "b")
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert "Permission denied" in found(tmp_path)["a", 1].problem
    assert found(tmp_path)["b", 1].problem == ""
