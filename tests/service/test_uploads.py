"""A model that comes with the request to load it."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from service.errors import InvalidRequest, NotBuilt
from service.folders import UploadFolders
from service.serving import BatchingRules, Specific, parse_rules, read_rules
from service.uploads import Upload, upload_of, write_upload


def encoded(content: bytes) -> str:
    """Return bytes as a request carries them."""
    return base64.b64encode(content).decode()


def test_files_by_version_and_path() -> None:
    """Nothing is made of requests that bring nothing."""
    given = {"config": "{}", "file:1/model.onnx": encoded(b"m"), "file:1/data/w": encoded(b"w")}
    upload = upload_of(given)
    assert upload is not None
    assert upload.files == {"1/model.onnx": b"m", "1/data/w": b"w"}
    assert upload_of({}) is None


@pytest.mark.parametrize(
    "path",
    [
        "../../x", "1/../../x", "1/..", "/etc/passwd", "1//x", "1/./x", "1/.hidden", "1\\..\\x",
        "1/x\0y", "x/model.onnx", "01/model.onnx", "0/model.onnx", "-1/m", "1", "", "1/", "1/a b",
        "1/" + "d/" * 9 + "x", "1/" + "a" * 200,
    ],
)  # fmt: skip
def test_a_path_leads_nowhere_else(path: str) -> None:
    """Only plain names below a version are taken."""
    with pytest.raises(InvalidRequest, match="expected file:<version>/<path>"):
        upload_of({"config": "{}", f"file:{path}": "AA=="})


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"file:1/m": "AA=="}, "files need a config beside them"),
        ({"config": 7, "file:1/m": "AA=="}, "expected a text that holds JSON"),
        ({"config": "{", "file:1/m": "AA=="}, "not JSON"),
        ({"config": "[" * 100_000, "file:1/m": "AA=="}, "not JSON"),
        ({"config": "[]", "file:1/m": "AA=="}, "expected an object"),
        ({"config": "{}", "file:1/m": 7}, "file:1/m: expected a text in base64"),
        ({"config": "{}", "file:1/m": "???"}, "file:1/m: not base64"),
        ({"config": "{}", "file:1/m": "AA==\n"}, "file:1/m: not base64"),
        ({"config": '{"version_policy": {"specific": {"versions": ["x"]}}}', "file:1/m": ""},
         "version_policy: got"),
        ({"config": "{}", **{f"file:1/{n}": "" for n in range(300)}}, "300 files, at most 256"),
    ],
)  # fmt: skip
def test_what_is_refused(parameters: dict[str, object], text: str) -> None:
    """With the key and what was expected."""
    with pytest.raises(InvalidRequest, match=text):
        upload_of(parameters)


def test_a_configuration_alone_is_not_built() -> None:
    """What the server should do with a model on disk is said there."""
    with pytest.raises(NotBuilt, match=r"serving\.toml"):
        upload_of({"config": '{"max_batch_size": 8}'})


def test_what_is_taken_of_a_configuration(tmp_path: Path) -> None:
    """Versions, the largest batch and its delay; the rest means nothing here."""
    config = """{"name": "m", "backend": "onnxruntime", "max_batch_size": 8,
        "version_policy": {"specific": {"versions": [2, "1"]}},
        "dynamic_batching": {"max_queue_delay_microseconds": 1500}}"""
    upload = upload_of({"config": config, "file:1/model.onnx": "AA=="})
    assert upload is not None
    folder = write_upload(tmp_path, "m", upload)
    rules = read_rules(folder / "m")
    assert rules.versions == Specific((1, 2))
    assert rules.batching == BatchingRules(max_rows=8, max_wait_ms=1.5)


@pytest.mark.parametrize(
    ("policy", "content"),
    [('{"all": {}}', "all"), ('{"latest": {"num_versions": 3}}', {"latest": 3})],
)
def test_version_policies(policy: str, content: object) -> None:
    """All of Triton's have one of ours."""
    upload = upload_of({"config": f'{{"version_policy": {policy}}}', "file:1/m": "AA=="})
    assert upload is not None
    assert parse_rules({"versions": content}).versions is not None
    assert b"versions = " in upload.files["serving.toml"]


def test_nobody_else_may_read_what_was_sent(tmp_path: Path) -> None:
    """The folder is one's own, and holds a repository of one model."""
    folder = write_upload(tmp_path, "m", Upload({"1/model.onnx": b"x"}))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "m" / "1" / "model.onnx").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "", "a\0b", "a" * 200])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    """What no model can be called is refused before anything is written."""
    with pytest.raises(InvalidRequest, match="cannot be a model's name"):
        write_upload(tmp_path, name, Upload({"1/model.onnx": b"x"}))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_what_cannot_be_written(tmp_path: Path) -> None:
    """A name that is a file and a folder."""
    with pytest.raises(InvalidRequest, match="cannot be kept"):
        write_upload(tmp_path, "m", Upload({"1/a": b"x", "1/a/b": b"y"}))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_lives_as_long_as_its_model(tmp_path: Path) -> None:
    """Another one, or the repository, takes its place; the end takes all."""
    folders = UploadFolders()
    first = write_upload(folders.root, "m", Upload({"1/a": b"x"}))
    second = write_upload(folders.root, "m", Upload({"1/a": b"y"}))
    folders.keep("m", first)
    folders.keep("m", second)
    assert (first.exists(), second.exists(), folders.of("m")) == (False, True, second)
    folders.remove(tmp_path)
    assert tmp_path.exists()
    folders.keep("m", None)
    assert not second.exists()
    root = folders.root
    folders.close()
    assert not root.exists()
