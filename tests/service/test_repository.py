"""What is found on disk, and what it is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.repository import Found, scan


def touch(*files: Path) -> None:
    """Make empty files; a scan looks at names, not at content."""
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def names(path: Path) -> list[tuple[str, int]]:
    """Return name and version of what is found."""
    return [(one.name, one.version) for one in scan(path)]


def test_the_layout_of_a_repository(tmp_path: Path) -> None:
    """Versions below models, single folders and single files live side by side, sorted by name."""
    touch(
        tmp_path / "b" / "1" / "model.onnx",
        tmp_path / "a.onnx",
        tmp_path / "c" / "model.onnx",
        tmp_path / "notes.txt",
        tmp_path / "empty" / "notes.txt",
    )
    assert names(tmp_path) == [("a", 1), ("b", 1), ("c", 1)]
    assert [one.model_file for one in scan(tmp_path)] == [
        tmp_path / "a.onnx",
        tmp_path / "b" / "1" / "model.onnx",
        tmp_path / "c" / "model.onnx",
    ]


def test_an_empty_repository(tmp_path: Path) -> None:
    """Nothing is found, which is no error: a model may come."""
    assert scan(tmp_path) == []


def test_every_version_is_found(tmp_path: Path) -> None:
    """Versions are numbers, not texts; other folders are none."""
    for version in ("9", "10", "2", "010", "-1", "11a", "0", "latest"):
        touch(tmp_path / "m" / version / "model.onnx")
    touch(tmp_path / "m" / "12")
    assert names(tmp_path) == [("m", 2), ("m", 9), ("m", 10)]


def test_hidden_names_are_ignored(tmp_path: Path) -> None:
    """An export that is not finished stands under a hidden name."""
    touch(
        tmp_path / ".m" / "1" / "model.onnx",
        tmp_path / "n" / ".2.77.partial" / "model.onnx",
        tmp_path / ".o.onnx",
    )
    assert scan(tmp_path) == []


def test_a_version_without_a_model_is_listed_with_its_problem(tmp_path: Path) -> None:
    """Whoever looks for it must see why it does not answer."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    (found,) = scan(tmp_path)
    assert found.problem == f"{tmp_path / 'm' / '1'}: no model.onnx"


@pytest.mark.parametrize("file", ["m/1/model.onnx", "m.onnx", "m/model.onnx"])
@pytest.mark.parametrize("root", ["models", "{}/models"])
def test_callers_see_paths_as_they_are_below_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, root: str
) -> None:
    """However the repository was named, its own place is left out of a text, and no other place."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "models" / file)
    (found,) = scan(Path(root.format(tmp_path)))
    whole = tmp_path / "models" / file
    text = f"'{whole}', {found.model_file}: /elsewhere{whole} models/1/x other-models/x"
    told = found.told(text)
    assert told.startswith(f"'{file}', {file}: /elsewhere{whole} ")
    assert told.endswith("other-models/x")


def test_a_repository_in_the_working_folder_needs_no_other_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its paths are relative as they are."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "3" / "model.onnx", tmp_path / "m.onnx")
    for found in scan(Path()):
        assert found.told(f"{found.path}: a.b") == f"{found.path}: a.b"
        assert found.told(f"{tmp_path / 'm.onnx'}: no") == "m.onnx: no"


@pytest.mark.parametrize("name", ["stats", "a b", "ä", "-x", "x" * 129, "a:b", "a\nb"])
def test_names_that_no_path_of_ours_could_carry(tmp_path: Path, name: str) -> None:
    """They are listed with their problem, and never loaded."""
    touch(tmp_path / name / "1" / "model.onnx")
    (found,) = scan(tmp_path)
    assert found.version == 1
    assert "cannot be a model's name" in found.problem


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A name that is not UTF-8 is listed in a form that every answer can carry."""
    touch(tmp_path / os.fsdecode(b"caf\xe9.onnx"))
    (found,) = scan(tmp_path)
    assert found.name == r"caf\udce9"
    assert found.problem.isprintable()
    assert found.path.exists()


@pytest.mark.parametrize("name", ["a", "A-b_c.d", "0", "_", "x" * 128])
def test_names_of_models(tmp_path: Path, name: str) -> None:
    """Letters, digits, dots, dashes and underscores."""
    touch(tmp_path / name / "1" / "model.onnx")
    assert scan(tmp_path) == [Found(name, 1, tmp_path / name / "1")]


def test_one_bundle(tmp_path: Path) -> None:
    """A folder with a model or a contract is one model, called after the folder above a version."""
    touch(tmp_path / "m" / "4" / "bundle.json", tmp_path / "plain" / "model.onnx")
    (bundle,) = scan(tmp_path / "m" / "4")
    assert (bundle.name, bundle.version, bundle.is_bundle) == ("m", 4, True)
    (plain,) = scan(tmp_path / "plain")
    assert (plain.name, plain.version, plain.is_bundle) == ("plain", 1, False)


def test_the_folder_of_one_model(tmp_path: Path) -> None:
    """It holds versions and nothing else, so it is one model and not a repository of numbers."""
    model = tmp_path / "m"
    touch(model / "4" / "model.onnx", model / "10" / "model.onnx", model / "serving.toml")
    touch(model / "99", model / ".11" / "model.onnx")
    assert names(model) == [("m", 4), ("m", 10)]
    (model / "12").mkdir()
    found = scan(model)[-1]
    assert (found.version, found.problem) == (12, f"{model / '12'}: no model.onnx")


def test_a_repository_of_models_called_by_numbers(tmp_path: Path) -> None:
    """A number is a model's name where versions or other models say so."""
    touch(tmp_path / "7" / "3" / "model.onnx")
    assert names(tmp_path) == [("7", 3)]
    touch(tmp_path / "8" / "model.onnx", tmp_path / "net.onnx")
    assert names(tmp_path) == [("7", 3), ("8", 1), ("net", 1)]


def test_one_file(tmp_path: Path) -> None:
    """A file is called after itself, or, if it is a model.onnx, after its folder."""
    touch(tmp_path / "net.onnx", tmp_path / "m" / "4" / "model.onnx")
    (net,) = scan(tmp_path / "net.onnx")
    assert (net.name, net.version, net.model_file) == ("net", 1, tmp_path / "net.onnx")
    assert not net.is_bundle
    (model,) = scan(tmp_path / "m" / "4" / "model.onnx")
    assert (model.name, model.version) == ("m", 4)


def test_a_folder_is_known_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also "." has a name."""
    touch(tmp_path / "m" / "4" / "model.onnx")
    monkeypatch.chdir(tmp_path / "m" / "4")
    for path in (Path(), Path("model.onnx")):
        assert names(path) == [("m", 4)]


def test_a_link_to_a_file(tmp_path: Path) -> None:
    """It is called after the place where it stands, as in a store of files named by their hash."""
    touch(tmp_path / "blobs" / "a1b2")
    for link in (tmp_path / "net" / "model.onnx", tmp_path / "other.onnx"):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(tmp_path / "blobs" / "a1b2")
        (found,) = scan(link)
        assert found.model_file == link
    assert names(tmp_path / "net" / "model.onnx") == [("net", 1)]
    assert names(tmp_path) == [("net", 1), ("other", 1)]


def test_what_is_no_model(tmp_path: Path) -> None:
    """A path that is not there, or a file of another kind, is named."""
    touch(tmp_path / "model.pt")
    for path in (tmp_path / "nowhere", tmp_path / "model.pt"):
        with pytest.raises(ConfigurationError, match=path.name):
            scan(path)
