"""Folders and archives as sources of files."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data import DataError, sources
from training.data.sources import gunzip, read_file, read_files

from .fixtures import refusal, write_folder, write_tar, write_zip

FILES = {"a/one.txt": b"1" * 700, "a/two.txt": b"22", "three.txt": b"333"}


def tar_of(path: Path, *members: tarfile.TarInfo) -> Path:
    """Write a tar of members without content."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """Return a member of a tar."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize("kind", ["folder", "a.tar", "a.tar.gz", "a.tgz", "a.zip"])
def test_names_and_contents_are_the_same_everywhere(tmp_path: Path, kind: str) -> None:
    """A folder and the archives of it give the same files."""
    if kind == "folder":
        root = write_folder(tmp_path / kind, FILES)
    else:
        root = (write_zip if kind.endswith("zip") else write_tar)(tmp_path / kind, FILES)
    assert dict(read_files(root)) == FILES
    assert dict(read_files(root, lambda name: name.startswith("a/"))).keys() == {
        "a/one.txt",
        "a/two.txt",
    }
    with pytest.raises(DataError, match=r"one.txt: more than 600 bytes"):
        list(read_files(root, limit=600))


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    """What desktops leave behind is no data."""
    noise = {".DS_Store": b"", "a/Thumbs.db": b"", "__MACOSX/a/._one.txt": b"", ".git/x": b""}
    assert dict(read_files(write_folder(tmp_path / "f", FILES | noise))) == FILES
    assert dict(read_files(write_zip(tmp_path / "f.zip", FILES | noise))) == FILES


def test_folders_are_walked_to_a_depth(tmp_path: Path) -> None:
    """Files below the depth are not looked at."""
    assert list(read_files(write_folder(tmp_path, FILES), depth=1)) == [("three.txt", b"333")]


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "a\\..\\out"])
def test_members_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    """No archive names a file that is not in it, and nothing is written anywhere."""
    packed = tmp_path / "packed"
    packed.mkdir()
    for root in (tar_of(packed / "a.tar", member(name)), write_zip(packed / "a.zip", {name: b""})):
        with pytest.raises(DataError, match="leads outside the archive"):
            list(read_files(root, lambda _: False))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "a.zip", "packed"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    """A link is never followed, whatever it points to."""
    root = tar_of(tmp_path / "a.tar", member("x", kind, "/etc/passwd"))
    with pytest.raises(DataError, match=r"a.tar: 'x' is a link or a device"):
        list(read_files(root))


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    """A zip marks links in its file modes."""
    link = zipfile.ZipInfo("x")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="'x' is a link"):
        list(read_files(tmp_path / "a.zip"))


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    """Of two members with one name nobody can say which is meant."""
    root = tar_of(tmp_path / "a.tar", member("x"), member("./x"))
    with pytest.raises(DataError, match="is there twice"):
        list(read_files(root))


def test_other_packings_of_a_zip_are_refused(tmp_path: Path) -> None:
    """Only stored and deflated members are read."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x", b"x")
    with pytest.raises(DataError, match="'x' is packed with 12"):
        list(read_files(tmp_path / "a.zip"))


def test_folders_in_a_zip_are_no_files(tmp_path: Path) -> None:
    """Archivers list them, or do not."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.mkdir("a")
        archive.writestr("a/x", b"x")
    assert list(read_files(tmp_path / "a.zip")) == [("a/x", b"x")]


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names alone would fill the memory."""
    monkeypatch.setattr(sources, "MAX_MEMBERS", 2)
    with pytest.raises(DataError, match=r"a\.zip: more than 2 files"):
        list(read_files(write_zip(tmp_path / "a.zip", FILES)))


def test_a_header_cannot_ask_for_memory(tmp_path: Path) -> None:
    """A member's extended header of gigabytes is refused before it is read."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 32
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(header.tobuf() + bytes(4096)))
    with pytest.raises(DataError, match="a member's header asks for 4294967296 bytes"):
        list(read_files(tmp_path / "a.tar.gz"))


@pytest.mark.parametrize("kept", [lambda _: 30, lambda size: size // 2, lambda size: size - 1])
def test_truncated_archives_are_refused(tmp_path: Path, kept: Callable[[int], int]) -> None:
    """A download that was cut off is refused, even if only its checksum is gone."""
    for write, name in ((write_tar, "a.tar.gz"), (write_zip, "a.zip")):
        root = write(tmp_path / name, FILES)
        raw = root.read_bytes()
        root.write_bytes(raw[: kept(len(raw))])
        with pytest.raises(DataError, match=f"{name}: damaged archive"):
            list(read_files(root))


def test_what_is_not_there_or_no_archive_is_refused(tmp_path: Path) -> None:
    """The text names the path."""
    with pytest.raises(DataError, match="nowhere: there is no such file or folder"):
        list(read_files(tmp_path / "nowhere"))
    (tmp_path / "a.rar").write_bytes(b"")
    with pytest.raises(DataError, match=r"a.rar: must be a folder, .tar"):
        list(read_files(tmp_path / "a.rar"))
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_file(tmp_path, 1)


def test_gunzip_is_bounded() -> None:
    """A small file that grows large is refused."""
    with pytest.raises(DataError, match="x: more than 1000 bytes"):
        gunzip(gzip.compress(bytes(1 << 20)), "x", 1000)


@cache
def archives(folder: Path) -> tuple[Path, ...]:
    """Return small archives to damage."""
    return tuple(
        (write_zip if name.endswith("zip") else write_tar)(folder / name, FILES)
        for name in ("a.tar", "a.tar.gz", "a.zip")
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1))
def test_mutations_raise_nothing_but_data_error(
    tmp_path: Path, which: int, changes: list[tuple[float, int]]
) -> None:
    """Random bytes in an archive are read or refused."""
    source = archives(tmp_path)[which]
    raw = bytearray(source.read_bytes())
    for place, value in changes:
        raw[int(place * (len(raw) - 1))] = value
    damaged = tmp_path / f"damaged-{source.name}"
    damaged.write_bytes(raw)
    refused = refusal(lambda: list(read_files(damaged, limit=1 << 20)))
    assert refused is None or damaged.name in refused
