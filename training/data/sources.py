"""The files of a folder or an archive, read one by one in memory; nothing is ever extracted."""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from training.data.dataset import DataError

MEBIBYTE = 1 << 20
MAX_MEMBERS = 2_000_000
# What tarfile, zipfile, gzip and zlib raise on damaged files, as random mutations showed.
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    RuntimeError,
)
_FOLDER_NOISE = ("Thumbs.db", "desktop.ini", "__MACOSX")
Wanted = Callable[[str], bool]
File = tuple[str, bytes]


def read_files(
    root: Path, wanted: Wanted = lambda _: True, *, limit: int = 64 * MEBIBYTE, depth: int = 4
) -> Iterator[File]:
    """Yield name and content of the wanted files of a folder, a .tar, .tar.gz, .tgz or .zip.

    Names are relative, with forward slashes. A folder is walked ``depth`` names deep in sorted
    order; an archive comes in its own order. Raises DataError for a file over ``limit`` bytes and
    for archives that are damaged, hold links, or name files outside themselves.
    """
    if root.is_dir():
        yield from _folder(root, "", wanted, limit=limit, depth=depth)
    elif not root.is_file():
        raise DataError(f"{root}: there is no such file or folder")
    elif root.name.endswith((".tar", ".tar.gz", ".tgz")):
        yield from _guarded(root.name, _tar(root, wanted, limit))
    elif root.name.endswith(".zip"):
        yield from _guarded(root.name, _zip(root, wanted, limit))
    else:
        raise DataError(f"{root}: must be a folder, .tar, .tar.gz, .tgz or .zip")


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of one file of at most ``limit`` bytes."""
    try:
        with path.open("rb") as file:
            return read_bounded(file, path.name, limit)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_bounded(file: IO[bytes], where: str, limit: int) -> bytes:
    """Return the rest of an open file, refused beyond ``limit`` bytes."""
    raw = file.read(limit + 1)
    if len(raw) > limit:
        raise DataError(f"{where}: more than {limit} bytes")
    return raw


def gunzip(raw: bytes, where: str, limit: int) -> bytes:
    """Return the content of a complete gzip file, refused beyond ``limit`` bytes."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            return read_bounded(cast("IO[bytes]", file), where, limit)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{where}: truncated or damaged gzip: {error}") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_noise(name: str) -> bool:
    """Tell whether a path is hidden or what desktops leave in folders."""
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part in _FOLDER_NOISE for part in parts)


def _folder(folder: Path, prefix: str, wanted: Wanted, *, limit: int, depth: int) -> Iterator[File]:
    for path in sorted(folder.iterdir()):
        name = f"{prefix}{path.name}"
        if path.is_dir():
            if depth > 1 and not is_noise(name):
                yield from _folder(path, f"{name}/", wanted, limit=limit, depth=depth - 1)
        elif wanted(name) and not is_noise(name):
            yield name, read_file(path, limit)


def _guarded(where: str, files: Iterator[File]) -> Iterator[File]:
    """Pass the files on, with what a damaged archive raises as DataError."""
    while True:
        try:
            file = next(files, None)
        except DataError:
            raise
        except DAMAGED as error:
            raise DataError(f"{where}: damaged archive: {type(error).__name__}: {error}") from error
        if file is None:
            return
        yield file


def _tar(root: Path, wanted: Wanted, limit: int) -> Iterator[File]:
    seen: set[str] = set()
    packed = not root.name.endswith(".tar")
    with root.open("rb") as disk:
        stream = gzip.GzipFile(fileobj=disk) if packed else disk
        # tarfile believes the sizes of a header's own headers; this reader does not.
        reader = _Bounded(cast("IO[bytes]", stream), root.name, limit)
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r:") as archive:
            while (member := archive.next()) is not None:
                # tarfile keeps every header it saw, which are of no use in one pass.
                archive.members.clear()  # type: ignore[attr-defined]  # not in the stubs
                if member.isdir():
                    continue
                name = _safe_name(root.name, member.name, seen)
                if not member.isreg():
                    raise DataError(f"{root.name}: '{name}' is a link or a device, not a file")
                content = archive.extractfile(member)
                if wanted(name) and not is_noise(name) and content is not None:
                    yield name, read_bounded(content, f"{root.name}: {name}", limit)
        # Only a gzip stream that is read to its end has shown that it is whole.
        read_bounded(cast("IO[bytes]", stream), f"{root.name}: after the last member", MEBIBYTE)


def _zip(root: Path, wanted: Wanted, limit: int) -> Iterator[File]:
    seen: set[str] = set()
    with zipfile.ZipFile(root) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            name = _safe_name(root.name, member.filename, seen)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DataError(f"{root.name}: '{name}' is a link, not a file")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{root.name}: '{name}' is packed with {member.compress_type}")
            if wanted(name) and not is_noise(name):
                with archive.open(member) as content:
                    yield name, read_bounded(content, f"{root.name}: {name}", limit)


def _safe_name(archive: str, name: str, seen: set[str]) -> str:
    """Return the member's name without a leading ``./``; raise for one that leads outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise DataError(f"{archive}: member '{name}' leads outside the archive")
    if str(path) in seen:
        raise DataError(f"{archive}: member '{name}' is there twice")
    if len(seen) >= MAX_MEMBERS:
        raise DataError(f"{archive}: more than {MAX_MEMBERS} files")
    seen.add(str(path))
    return str(path)


class _Bounded:
    """A file that refuses to be read in pieces beyond a limit."""

    def __init__(self, file: IO[bytes], where: str, limit: int) -> None:
        self._file, self._where, self._limit = file, where, limit

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._limit + tarfile.RECORDSIZE:
            raise DataError(f"{self._where}: a member's header asks for {size} bytes")
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        return self._file.seek(position, whence)
