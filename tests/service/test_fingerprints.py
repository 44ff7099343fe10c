"""How a repository looks from outside, by the properties of its files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.fingerprints import OWN, WHOLE, Print, Sight, fingerprint_of, is_complete, look
from tests.support.loads import put_model


def parts(sight: Sight) -> dict[str, set[str]]:
    """Return which parts are seen of which model."""
    return {name: set(seen) for name, seen in sight.items()}


def put_bundle(folder: Path, **sizes: int) -> None:
    """Write a folder with a list of files; only names and sizes are looked at."""
    folder.mkdir(parents=True)
    files = {f"{name}.bin": {"bytes": size, "sha256": ""} for name, size in sizes.items()}
    (folder / "bundle.json").write_text(json.dumps({"files": files}))
    for name, size in sizes.items():
        (folder / f"{name}.bin").write_bytes(bytes(size))


def append(file: Path) -> None:
    """Make a file longer."""
    with file.open("ab") as stream:
        stream.write(b"x")


def overwrite(file: Path) -> None:
    """Write other bytes of the same number, and put the modification time back."""
    before = file.stat()
    # The clock of files has ticks: nothing changes between two of them.
    while file.stat().st_ctime_ns == before.st_ctime_ns:
        file.write_bytes(b"b" * before.st_size)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def rename(file: Path) -> None:
    """Give a file another name."""
    file.rename(file.with_name("other"))


@pytest.mark.parametrize("change", [append, overwrite, rename, Path.unlink])
def test_every_change_is_seen(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """Of content, size, name and number of the files, also with the old modification time."""
    file = tmp_path / "deep" / "file"
    file.parent.mkdir()
    file.write_bytes(b"a" * 10)
    before = fingerprint_of(tmp_path)
    assert fingerprint_of(tmp_path) == before
    change(file)
    assert fingerprint_of(tmp_path) != before


def test_hidden_files_are_not_seen_but_where_a_link_leads_is(tmp_path: Path) -> None:
    """So copies under a hidden name do not disturb, and mounted content is seen to change."""
    for name in ("..first", "..second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "..data").symlink_to("..first")
    (tmp_path / "file").symlink_to("..data/file")
    before = fingerprint_of(tmp_path)
    (tmp_path / ".partial").write_text("half")
    assert fingerprint_of(tmp_path) == before
    (tmp_path / "..new").symlink_to("..second")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert fingerprint_of(tmp_path) != before


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """A folder that holds itself is looked at some levels deep."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "loop").symlink_to("..")
    assert fingerprint_of(tmp_path)


def test_the_models_of_a_repository(tmp_path: Path) -> None:
    """Each version is a part, and so is what lies beside the versions, and a file."""
    put_model(tmp_path, "a", versions=[1, 2])
    (tmp_path / "b.onnx").touch()
    (tmp_path / "notes.txt").touch()
    assert parts(look(tmp_path)) == {"a": {"1", "2", OWN}, "b": {".onnx"}}


def test_only_what_has_changed_looks_different(tmp_path: Path) -> None:
    """Rules beside the versions are a part of their own."""
    model = put_model(tmp_path, versions=[1, 2])
    before = look(tmp_path)["m"]
    (model / "serving.toml").write_text('versions = "all"')
    after = look(tmp_path)["m"]
    assert {name for name in after if after[name] != before[name]} == {OWN}


def test_one_model_is_the_whole(tmp_path: Path) -> None:
    """Whether a file, a version or the folder of versions is served; so is what is named anew."""
    model = put_model(tmp_path)
    (model / "1" / "model.onnx").write_text("x")
    assert parts(look(model)) == {WHOLE: {"1", OWN}}
    assert parts(look(model / "1")) == {WHOLE: {OWN}}
    assert parts(look(model / "1" / "model.onnx")) == {WHOLE: {OWN}}
    assert parts(look(tmp_path, whole=True)) == {WHOLE: {"1", OWN}}
    put_model(tmp_path, "other")
    assert parts(look(tmp_path, whole=True)) == {WHOLE: {"m/1", "m/", "other/1", "other/"}}


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    """It is not an empty one."""
    with pytest.raises(OSError, match="No such file"):
        look(tmp_path / "gone")
    assert look(tmp_path) == {}


def test_a_bundle_is_complete_when_its_files_have_their_sizes(tmp_path: Path) -> None:
    """A list that is cut off is not; one that is no list at all is for a load to refuse."""
    folder = tmp_path / "1"
    put_bundle(folder, a=3, b=5)
    assert is_complete(folder)
    append(folder / "a.bin")
    assert not is_complete(folder)
    put_bundle(tmp_path / "2", a=3)
    (tmp_path / "2" / "a.bin").unlink()
    assert not is_complete(tmp_path / "2")
    (tmp_path / "2" / "bundle.json").write_text('{"files": {')
    assert not is_complete(tmp_path / "2")
    (tmp_path / "2" / "bundle.json").write_text('{"files": 7}')
    assert is_complete(tmp_path / "2")


def test_a_bare_model_is_complete_unless_it_is_empty(tmp_path: Path) -> None:
    """Beside bundles it is one whose list has not come yet."""
    model = put_model(tmp_path)
    assert not is_complete(model / "1")
    (model / "1" / "model.onnx").write_text("x")
    assert is_complete(model / "1")
    assert look(tmp_path)["m"]["1"].complete
    put_bundle(model / "2", a=1)
    seen = look(tmp_path)["m"]
    assert (seen["1"].complete, seen["2"].complete) == (False, True)
    assert seen[OWN] == Print(seen[OWN].fingerprint, complete=True)
