"""Files read once into memory that nobody can change, and what is never read."""

from __future__ import annotations

import hashlib
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import BundleError, FilesChanged
from service.sealed import Sealed, Sealer

MIB = 1 << 20


def sealed(root: Path, *names: str, in_memory_file: bool = True) -> Sealed:
    """Read files below a root."""
    sealer = Sealer(root, max_bytes=64 * MIB, in_memory_file=in_memory_file)
    for name in names:
        sealer.add(name)
    return sealer.seal()


def refused(root: Path, name: str, *, max_bytes: int = MIB) -> BundleError:
    """Return why a file is not read."""
    sealer = Sealer(root, max_bytes=max_bytes)
    try:
        with pytest.raises(BundleError) as caught:
            sealer.add(name)
    finally:
        sealer.close()
    return caught.value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with two files, beside a secret."""
    folder = tmp_path / "m"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_bytes(b"first" * 1000)
    (folder / "deep" / "b").write_bytes(b"second")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


@pytest.mark.parametrize("in_memory_file", [True, False])
def test_what_was_read_stays_whatever_happens_on_disk(
    root: Path,
    in_memory_file: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Content, hashes and views are those of the moment, with a memory file or without."""
    files = sealed(root, "a", "deep/b", in_memory_file=in_memory_file)
    (root / "a").write_bytes(b"other")
    (root / "deep" / "b").unlink()
    assert files.read("a") == b"first" * 1000
    assert bytes(files.view("deep/b")) == b"second"
    assert files.files["a"].sha256 == hashlib.sha256(b"first" * 1000).hexdigest()
    assert (files.descriptor is None) is not in_memory_file
    view = files.view("a")
    files.close()
    assert bytes(view[:5]) == b"first"


def test_an_empty_file_and_one_above_a_chunk(root: Path) -> None:
    """Any size is read, and each begins on a page of its own."""
    (root / "empty").touch()
    (root / "large").write_bytes(os.urandom(3 * MIB + 7))
    files = sealed(root, "large", "empty", "a")
    assert files.read("empty") == bytes(files.view("empty")) == b""
    assert files.read("large") == (root / "large").read_bytes()
    assert bytes(files.view("a")) == b"first" * 1000
    assert all(one.offset % 4096 == 0 for one in files.files.values())
    files.close()


def test_nobody_can_change_what_is_sealed(root: Path) -> None:
    """Not by writing, cutting or growing, not through a mapping, not by breaking the seal."""
    files = sealed(root, "a")
    descriptor = files.descriptor
    assert descriptor is not None
    tries: list[Callable[[], object]] = [
        lambda: os.pwrite(descriptor, b"x", 0),
        lambda: os.ftruncate(descriptor, 0),
        lambda: os.ftruncate(descriptor, 1 << 20),
        lambda: mmap.mmap(descriptor, 0),
    ]
    for attempt in tries:
        with pytest.raises(PermissionError):
            attempt()
    with pytest.raises(TypeError):
        files.view("a")[0] = 1
    files.close()


def test_only_sealed_memory_is_taken_over(root: Path) -> None:
    """A process trusts no descriptor whose content could still change, or is not all there."""
    files = sealed(root, "a", "deep/b")
    table = tuple(files.files.values())
    open_memory = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    with pytest.raises(ValueError, match="not sealed"):
        Sealed(table, open_memory)
    os.close(open_memory)
    short = sealed(root, "a")
    assert short.descriptor is not None
    with pytest.raises(ValueError, match="shorter"):
        Sealed(table, short.descriptor)
    short.close()
    kept = files.kept()
    files.close()
    assert kept.read("deep/b") == b"second"
    kept.close()


def test_a_file_is_read_once(root: Path) -> None:
    """Asked for again, it is what it was."""
    sealer = Sealer(root, max_bytes=MIB)
    first = sealer.add("a")
    (root / "a").write_bytes(b"other")
    assert sealer.add("a") is first
    assert sealer.content("a") == b"first" * 1000
    assert "a" in sealer
    sealer.close()


@pytest.mark.parametrize("name", ["a", "deep/b"])
def test_what_changes_while_others_are_read(root: Path, name: str) -> None:
    """All files are of one moment, or none is."""
    sealer = Sealer(root, max_bytes=MIB)
    sealer.add("a")
    sealer.add("deep/b")
    (root / name).write_bytes(b"later")
    with pytest.raises(FilesChanged, match="changed while it was read"):
        sealer.seal()
    (root / name).unlink()
    with pytest.raises(FilesChanged):
        sealer.seal()
    sealer.close()


def link_out(root: Path) -> None:
    """Lead out of the folder."""
    (root / "x").symlink_to("../secret")


def link_out_by_a_folder(root: Path) -> None:
    """Lead out of the folder by a link to a folder."""
    (root / "up").symlink_to("..")
    (root / "x").symlink_to("up/secret")


def absolute_link(root: Path) -> None:
    """Lead to a place by its whole name."""
    (root / "x").symlink_to("/etc/hostname")


def hard_link(root: Path) -> None:
    """Give a file outside a second name within."""
    (root / "x").hardlink_to(root.parent / "secret")


def pipe(root: Path) -> None:
    """Make a pipe, which nobody writes to."""
    os.mkfifo(root / "x")


def a_socket(root: Path) -> None:
    """Make a socket."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(root / "x"))


def a_folder(root: Path) -> None:
    """Make a folder."""
    (root / "x").mkdir()


def zeros(root: Path) -> None:
    """Lead to a device."""
    (root / "x").symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (link_out, "a link that leads out of the model's folder, to "),
        (link_out_by_a_folder, "a link that leads out"),
        (absolute_link, "a link that leads out"),
        (zeros, "a link that leads out"),
        (hard_link, "a hard link; 1 of its 2 names lie outside"),
        (pipe, "not a regular file"),
        (a_socket, "not a regular file"),
        (a_folder, "not a regular file"),
    ],
)
def test_what_is_no_plain_file_of_the_folder(
    root: Path, make: Callable[[Path], None], reason: str
) -> None:
    """It is refused, named, and nothing of it is read."""
    make(root)
    error = refused(root, "x")
    assert (error.code, str(error).startswith(f"{root / 'x'}: {reason}")) == ("unsafe_file", True)


def test_links_within_the_folder(root: Path) -> None:
    """Links that stay, soft or hard, are plain files; the folder itself may be behind a link."""
    (root / "soft").symlink_to("deep/b")
    (root / "hard").hardlink_to(root / "a")
    (root.parent / "other").symlink_to("m")
    files = sealed(root.parent / "other", "soft", "hard")
    assert (files.read("soft"), files.read("hard")) == (b"second", b"first" * 1000)
    files.close()


def test_what_is_not_there(root: Path) -> None:
    """A missing file, a file below a file and a dangling link are missing."""
    (root / "x").symlink_to("nowhere")
    for name in ("none", "a/below", "x"):
        assert refused(root, name).code == "file_missing"


def test_files_that_are_too_large(root: Path) -> None:
    """The limit is for all together, and told before a byte is read, even of a file of holes."""
    with (root / "holes").open("wb") as file:
        file.truncate(1 << 40)
    error = refused(root, "holes")
    assert (error.code, "1099511627776 bytes" in str(error)) == ("too_large", True)
    sealer = Sealer(root, max_bytes=5003)
    sealer.add("a")
    with pytest.raises(BundleError, match="may have 5003 here"):
        sealer.add("deep/b")
    sealer.close()


def test_a_size_that_is_known_before(root: Path) -> None:
    """A file of another size is not read."""
    sealer = Sealer(root, max_bytes=MIB)
    with pytest.raises(BundleError, match=r"6 bytes, bundle\.json says 7") as caught:
        sealer.add("deep/b", expected=7)
    assert caught.value.code == "hash_mismatch"
    sealer.close()
