"""What `service.bundle` promises."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bundle import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Bundle,
    canonical,
    digest,
    is_bundle,
    is_version,
    next_version,
    publishing,
    read_bundle,
    seal,
)
from service.contract import Contract
from service.errors import BundleError
from service.repository import scan
from tests.support.strategies import JSON, damaged

CONTRACT = Contract.model_validate(
    {
        "task": "tensor",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["n", 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": ["n", 2]}],
        "pipeline": {"kind": "tensor"},
        "batchable": True,
    }
)
FILES = {
    "model.onnx": b"a graph",
    "metrics.json": b'{"accuracy": 0.5}',
    "explain/explain.onnx": b"another",
    "empty.txt": b"",
}
FORMLESS = ("NaN", "Infinity")
OBJECTS = st.dictionaries(st.text(max_size=4), JSON, max_size=4).filter(
    lambda members: not any(word in json.dumps(members) for word in FORMLESS)
)


def nested(levels: int) -> list[object]:
    """Return an empty array inside so many others."""
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


def write(folder: Path, files: Mapping[str, bytes] = FILES) -> Bundle:
    """Write files into a folder and seal it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return seal(folder, CONTRACT, {"name": "hand-made"})


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Return a good bundle."""
    return write(tmp_path / "1")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """Return a good bundle for many tests that put back what they change."""
    bundle = write(tmp_path_factory.mktemp("model") / "1")
    yield bundle
    read_bundle(bundle.path).verify_files()


def rewrite(folder: Path, changes: Mapping[str, object], *, redigest: bool = True) -> None:
    """Change members of a bundle's manifest, in canonical form and with a digest that fits."""
    members = json.loads((folder / MANIFEST_FILE).read_bytes()) | dict(changes)
    if redigest:
        members["digest"] = digest(members)
    (folder / MANIFEST_FILE).write_bytes(canonical(members))


def refusal(folder: Path) -> str:
    """Return the text with which a folder is refused."""
    with pytest.raises(BundleError) as caught:
        read_bundle(folder).verify_files()
    return str(caught.value)


@given(OBJECTS)
def test_there_is_one_form_for_one_content(members: dict[str, Any]) -> None:
    """Sorted keys, no blanks, UTF-8, one newline; what is read from it has the same form."""
    content = canonical(members)
    assert canonical(json.loads(content)) == content
    assert canonical(dict(reversed(members.items()))) == content
    assert content.endswith(b"}\n")
    assert content.count(b"\n") == 1
    assert json.loads(content) == members


def test_the_canonical_form_is_pinned() -> None:
    """Any other program can make it, byte for byte."""
    members = {"b": [1, 2.5, None, True], "a": {"é": "\n", "d": "/"}}
    assert canonical(members) == '{"a":{"d":"/","é":"\\n"},"b":[1,2.5,null,true]}\n'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", nested(10_000)])
def test_what_has_no_canonical_form(value: object) -> None:
    """NaN, infinities, half surrogate pairs and what is too deep are refused in words."""
    with pytest.raises(BundleError, match="no canonical form: "):
        canonical({"a": value})


@given(OBJECTS.filter(lambda members: "digest" not in members), st.text())
def test_the_digest_is_of_everything_but_itself(members: dict[str, Any], claimed: str) -> None:
    """It does not depend on what the member digest says, and is sha256 of the canonical form."""
    content = canonical(members)
    assert digest({**members, "digest": claimed}) == hashlib.sha256(content).hexdigest()


def test_a_sealed_folder_is_a_bundle(bundle: Bundle) -> None:
    """It reads back as the same value, all files are listed, and every file can be read."""
    found = read_bundle(bundle.path)
    assert is_bundle(bundle.path)
    assert found == bundle
    found.verify_files()
    assert {name: found.read(name) for name in found.manifest.files} == FILES
    entry = found.manifest.files["model.onnx"]
    assert (entry.bytes, entry.sha256) == (7, hashlib.sha256(b"a graph").hexdigest())
    assert found.manifest.producer == {"name": "hand-made"}
    found_contract = found.manifest.model_dump(include=set(Contract.model_fields))
    assert Contract.model_validate(found_contract) == CONTRACT


def test_a_folder_may_be_sealed_again(bundle: Bundle) -> None:
    """After a change to its files the bundle is whole again, and does not list its own manifest."""
    (bundle.path / "model.onnx").write_bytes(b"better")
    seal(bundle.path, CONTRACT, {}).verify_files()
    again = read_bundle(bundle.path)
    again.verify_files()
    assert MANIFEST_FILE not in again.manifest.files


def test_a_folder_without_a_model_cannot_be_sealed(tmp_path: Path) -> None:
    """There is nothing to serve, and nothing is written."""
    with pytest.raises(BundleError, match=r"bundle.json: bundle: .*does not list model.onnx"):
        write(tmp_path, {"metrics.json": b"{}"})
    assert not is_bundle(tmp_path)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25)
@given(data=st.data())
def test_any_change_to_any_file_is_found(shared: Bundle, name: str, data: st.DataObject) -> None:
    """A byte changed, added or cut off: the file is named."""
    content = data.draw(st.binary(max_size=3) if not FILES[name] else damaged(FILES[name]))
    if content == FILES[name]:
        return
    file = shared.path / name
    file.write_bytes(content)
    try:
        text = refusal(shared.path)
    finally:
        file.write_bytes(FILES[name])
    assert text.startswith(f"{file}: ")
    assert "bundle.json says" in text


def test_size_and_hash_are_told(bundle: Bundle) -> None:
    """The text says what was found and what should be."""
    file = bundle.path / "model.onnx"
    file.write_bytes(b"a grave")
    found, wanted = (hashlib.sha256(content).hexdigest() for content in (b"a grave", b"a graph"))
    assert refusal(bundle.path) == f"{file}: sha256 is {found}, bundle.json says {wanted}"
    file.write_bytes(b"a gra")
    assert refusal(bundle.path) == f"{file}: 5 bytes, bundle.json says 7"


def test_a_size_that_was_never_true(bundle: Bundle) -> None:
    """A manifest that contradicts itself is refused, however well it is sealed."""
    files = bundle.manifest.model_dump()["files"]
    entry = files["model.onnx"] | {"bytes": 8}
    rewrite(bundle.path, {"files": files | {"model.onnx": entry}})
    assert refusal(bundle.path).endswith("model.onnx: 7 bytes, bundle.json says 8")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle: Bundle, name: str) -> None:
    """A half-copied bundle is not whole."""
    (bundle.path / name).unlink()
    assert refusal(bundle.path) == f"{bundle.path / name}: No such file or directory"


@pytest.mark.parametrize(
    "name", ["extra.txt", "explain/extra.txt", "new/deep/extra", "x..", "caf\udce9"]
)
def test_a_file_that_is_not_listed_is_named(bundle: Bundle, name: str) -> None:
    """Whatever lies beside the model may be picked up by it, so nothing is overlooked."""
    (bundle.path / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle.path / name).write_bytes(b"")
    text = refusal(bundle.path)
    assert text.endswith(": not listed in bundle.json")
    assert name.encode("utf-8", "backslashreplace") in text.encode()


@pytest.mark.parametrize("name", [".hidden", "explain/.x", ".git/config", ".a/b/c"])
def test_hidden_names_are_ignored(bundle: Bundle, name: str) -> None:
    """What tools leave behind under hidden names does not matter."""
    (bundle.path / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle.path / name).write_bytes(b"")
    (bundle.path / ".link").symlink_to("/nowhere")
    (bundle.path / "an_empty_folder").mkdir()
    read_bundle(bundle.path).verify_files()


def test_links_and_pipes_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    """What is no file or folder can change behind the hashes, or block whoever reads it."""
    (tmp_path / "away").write_bytes(b"a graph")
    file = bundle.path / "model.onnx"
    file.unlink()
    file.symlink_to(tmp_path / "away")
    assert refusal(bundle.path) == f"{file}: neither a file nor a folder"
    file.unlink()
    os.mkfifo(file)
    assert refusal(bundle.path) == f"{file}: neither a file nor a folder"
    file.unlink()
    file.write_bytes(b"a graph")
    (bundle.path / "explain" / "folder").symlink_to(tmp_path)
    assert refusal(bundle.path).endswith("folder: neither a file nor a folder")


def test_only_listed_files_can_be_read(bundle: Bundle, tmp_path: Path) -> None:
    """Neither the manifest nor a path out of the bundle is a listed file."""
    (tmp_path / "secret").write_bytes(b"")
    for name in (MANIFEST_FILE, "../secret", str(tmp_path / "secret"), "nothing"):
        with pytest.raises(BundleError, match=r"not listed in bundle.json"):
            bundle.read(name)


@given(data=st.data())
def test_any_change_to_the_manifest_is_found(shared: Bundle, data: st.DataObject) -> None:
    """One form has one digest, so that no byte can change."""
    file = shared.path / MANIFEST_FILE
    good = file.read_bytes()
    content = data.draw(damaged(good))
    if content == good:
        return
    file.write_bytes(content)
    try:
        text = refusal(shared.path)
    finally:
        file.write_bytes(good)
    assert text.startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "malformed JSON"),
        (b"{", "malformed JSON"),
        (b"[" * 100_000, "malformed JSON"),
        (b"[]", "expected an object, got an array"),
        (b"7\n", "expected an object, got the number 7"),
        (b"{}\n", "schema_version is None, this release reads 1"),
        (b'{"schema_version":2}\n', "schema_version is 2, this release reads 1"),
        (b'{"schema_version":"1"}\n', "schema_version is '1', this release reads 1"),
        (b'{"schema_version": 1}\n', "not in canonical form, so it was edited or damaged"),
        (b'{"schema_version":1}', "not in canonical form"),
        (b'{"schema_version":1,"a":2}\n', "not in canonical form"),
        (b'{"a":1,"a":2,"schema_version":1}\n', "not in canonical form"),
        (b'{"a":"\\u00e9","schema_version":1}\n', "not in canonical form"),
        (b'{"a":%d,"schema_version":1}\n' % 2**64, "not in canonical form"),
        (b'{"a":NaN,"schema_version":1}\n', "no canonical form"),
        (b'{"schema_version":1}\n', "digest is None, not "),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, content: bytes, text: str) -> None:
    """The file is named, with what is wrong."""
    (tmp_path / MANIFEST_FILE).write_bytes(content)
    assert refusal(tmp_path).startswith(f"{tmp_path / MANIFEST_FILE}: {text}")


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    """It is no bundle, and is refused when read as one."""
    assert not is_bundle(tmp_path)
    assert refusal(tmp_path) == f"{tmp_path / MANIFEST_FILE}: No such file or directory"
    (tmp_path / MANIFEST_FILE).mkdir()
    assert not is_bundle(tmp_path)
    assert refusal(tmp_path) == f"{tmp_path / MANIFEST_FILE}: Is a directory"


def test_a_manifest_of_any_size_is_not_read(tmp_path: Path) -> None:
    """A file over the limit is refused by its size alone, one at the limit by what it holds."""
    with (tmp_path / MANIFEST_FILE).open("wb") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    assert refusal(tmp_path).endswith(f"larger than {MAX_MANIFEST_BYTES} bytes")
    os.truncate(tmp_path / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    assert "malformed JSON" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"task": "guessing"}, "task: Input should be"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"schema_version": True}, "schema_version is True, this release reads 1"),
        ({"schema_version": 1.0}, "schema_version is 1.0, this release reads 1"),
        ({"outputs": []}, "outputs: "),
        ({"files": {}}, "bundle: Value error, files does not list model.onnx"),
    ],
)
def test_a_sealed_contract_must_hold_too(
    bundle: Bundle, changes: dict[str, object], text: str
) -> None:
    """A digest proves that nothing was changed, not that it is right."""
    rewrite(bundle.path, changes)
    assert refusal(bundle.path).startswith(f"{bundle.path / MANIFEST_FILE}: {text}")


def test_a_member_changed_without_its_digest(bundle: Bundle) -> None:
    """An edit in canonical form is found by the digest, which is told."""
    rewrite(bundle.path, {"producer": {"name": "somebody"}}, redigest=False)
    assert f"digest is {bundle.manifest.digest}, not " in refusal(bundle.path)


def test_reports(bundle: Bundle) -> None:
    """A report is an object, and one that is not there is none."""
    assert bundle.report("metrics") == {"accuracy": 0.5}
    assert bundle.report("parity") is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not a report: "),
        (b"{'a': 1}", "not a report: "),
        (b"[]", "expected an object, got an array"),
        (b'{"a": "\\ud800"}', "not a report: "),
        (b'{"a": NaN, "b": "\\ud800"}', "not a report: "),
        (b'{"a": %s}' % (b"[" * 300 + b"]" * 300), "not a report: "),
        (b'{"a": %s}' % (b"[" * 100_000), "not a report: "),
    ],
)
def test_reports_that_could_not_be_shown(tmp_path: Path, content: bytes, text: str) -> None:
    """What cannot be written into an answer is refused when it is read."""
    bundle = write(tmp_path, {**FILES, "metrics.json": content})
    with pytest.raises(BundleError) as caught:
        bundle.report("metrics")
    assert str(caught.value).startswith(f"{tmp_path / 'metrics.json'}: {text}")


def test_numbers_of_a_report_can_be_shown(tmp_path: Path) -> None:
    """Whole numbers of any length and NaN, as some programs write them, do no harm."""
    content = b'{"a": 123456789012345678901234567890, "b": NaN}'
    report = write(tmp_path, {**FILES, "metrics.json": content}).report("metrics")
    assert orjson.loads(orjson.dumps(report)) == {"a": 123456789012345678901234567890.0, "b": None}


def test_a_damaged_report_is_not_shown(bundle: Bundle) -> None:
    """Reports are under the hashes like every file."""
    (bundle.path / "metrics.json").write_bytes(b'{"accuracy": 0.9}')
    with pytest.raises(BundleError, match="sha256"):
        bundle.report("metrics")


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", True),
        ("10", True),
        ("9" * 18, True),
        ("9" * 19, False),
        ("0", False),
        ("01", False),
        ("-1", False),
        ("1.0", False),
        ("", False),
        ("v1", False),
        ("²", False),
        ("\u0661", False),
        (" 1", False),
    ],
)
def test_what_is_a_version(name: str, *, version: bool) -> None:
    """A positive whole number in its one way to be written."""
    assert is_version(name) is version


def test_the_next_version(tmp_path: Path) -> None:
    """One more than the highest there is, whatever else lies beside it."""
    assert next_version(tmp_path / "nothing") == 1
    assert next_version(tmp_path) == 1
    for name in ("2", "10", "03", ".99.partial", "latest", "-7"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == 11
    (tmp_path / "12").write_bytes(b"a file in the way")
    assert next_version(tmp_path) == 13


def contents(folder: Path) -> list[str]:
    """Return the names in a folder, hidden ones included."""
    return sorted(path.name for path in folder.iterdir())


def test_a_bundle_appears_whole(tmp_path: Path) -> None:
    """Until the end there is nothing to see; then the whole bundle, and nothing beside it."""
    model = tmp_path / "repository" / "model"
    with publishing(model, 3) as folder:
        write(folder)
        assert folder.name.startswith(".")
        assert next_version(model) == 1
        assert scan(model.parent) == []
    assert contents(model) == ["3"]
    read_bundle(model / "3").verify_files()
    assert next_version(model) == 4


def test_everybody_may_read_what_was_published(tmp_path: Path) -> None:
    """The folder has the rights that the user's mask gives, so that another user may serve it."""
    with publishing(tmp_path / "model", 1) as folder:
        write(folder)
    plain = tmp_path / "plain"
    plain.mkdir()
    assert (tmp_path / "model" / "1").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """However an export ends before its end, it vanishes, and the error goes on."""

    def publish() -> None:
        with publishing(tmp_path, 1) as folder:
            write(folder)
            raise error

    with pytest.raises(error):
        publish()
    assert contents(tmp_path) == []


@pytest.mark.parametrize("missing", ["model.onnx", MANIFEST_FILE])
def test_an_incomplete_bundle_is_not_published(tmp_path: Path, missing: str) -> None:
    """Without its model or its manifest a folder is no bundle."""

    def publish() -> None:
        with publishing(tmp_path, 1) as folder:
            write(folder)
            (folder / missing).unlink()

    with pytest.raises(BundleError, match=r"model.onnx or bundle.json is missing, not published"):
        publish()
    assert contents(tmp_path) == []


@pytest.mark.parametrize("taken", ["folder", "empty", "file", "link"])
def test_a_version_is_never_overwritten(tmp_path: Path, taken: str) -> None:
    """Whatever has its name, the version is refused before any work, and what is there stays."""
    target = tmp_path / "1"
    if taken == "file":
        target.write_bytes(b"x")
    elif taken == "link":
        target.symlink_to("/nowhere")
    else:
        target.mkdir()
    if taken == "folder":
        write(target)
    with (
        pytest.raises(BundleError, match=r"/1: exists already; a version is never overwritten"),
        publishing(tmp_path, 1),
    ):
        pytest.fail("the export began")
    assert contents(tmp_path) == ["1"]


def test_of_two_exporters_the_first_wins(tmp_path: Path) -> None:
    """Both work in folders of their own; the second is refused and the first one's bundle stays."""

    def second() -> None:
        with publishing(tmp_path, 1) as late:
            with publishing(tmp_path, 1) as early:
                assert early != late
                write(early, {**FILES, "model.onnx": b"early"})
            write(late, {**FILES, "model.onnx": b"late"})

    with pytest.raises(BundleError, match="exists already"):
        second()
    assert contents(tmp_path) == ["1"]
    assert read_bundle(tmp_path / "1").read("model.onnx") == b"early"


def test_trouble_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as it is, not as a version that exists, and nothing stays."""

    def fail(path: Path, target: Path) -> Path:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))

    def publish() -> None:
        with publishing(tmp_path, 1) as folder:
            write(folder)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"):
        publish()
    assert contents(tmp_path) == []


@pytest.mark.parametrize("version", [0, -1, 10**18])
def test_a_number_that_is_no_version_is_not_published(tmp_path: Path, version: int) -> None:
    """Nobody would find it again."""
    with (
        pytest.raises(BundleError, match=f"version {version}, must be 1 or more"),
        publishing(tmp_path / "model", version),
    ):
        pytest.fail("the export began")
    assert contents(tmp_path) == []


KILLED = """
import os, sys
from pathlib import Path
from service.bundle import publishing
with publishing(Path(sys.argv[1]), 1) as folder:
    (folder / "model.onnx").write_bytes(b"half")
    (folder / "bundle.json").write_bytes(b"{}")
    os._exit(9)
"""


def test_a_killed_exporter_leaves_no_half_bundle(tmp_path: Path) -> None:
    """What it leaves is hidden, in nobody's way, and is removed after a day."""
    model = tmp_path / "model"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(model)], check=False)
    assert ended.returncode == 9
    (remains,) = model.iterdir()
    assert scan(tmp_path) == []
    assert next_version(model) == 1

    with publishing(model, 1) as folder:
        write(folder)
    assert contents(model) == [remains.name, "1"]

    yesterday = time.time() - 90_000
    os.utime(remains, (yesterday, yesterday))
    with publishing(model, 2) as folder:
        write(folder)
    assert contents(model) == ["1", "2"]
