"""A version's files, read once into memory that nobody can change any more.

What was hashed and proved is then what is loaded, whatever happens to the files on disk.  Only
plain files within the version's folder are read.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.errors import BundleError, FilesChanged
from service.refusals import Refusal

MAX_FILES: Final = 10_000
_CHUNK: Final = 1 << 20
# Where a file begins, so that it can be mapped and its numbers lie on whole addresses.
_ALIGNED: Final = 4096
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Linux gives them numbers that Python 3.11 names only where the C library did.
_ADD_SEALS: Final = getattr(fcntl, "F_ADD_SEALS", 1033)
_GET_SEALS: Final = getattr(fcntl, "F_GET_SEALS", 1034)
_SEALS: Final = 0x1 | 0x2 | 0x4 | 0x8
"""F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE."""


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One file: where it lies in the memory, its hash, and how it looked on disk.

    ``name`` is its path below the root.  ``stamp`` is another one when the file on disk is.
    """

    name: str
    offset: int
    bytes: int
    sha256: str
    stamp: str


class Sealed:
    """Files in memory: a sealed memory file, or plain bytes where the system has none such."""

    def __init__(self, files: Sequence[SealedFile], held: int | bytes) -> None:
        """Take over a descriptor of a sealed memory file, or the bytes.

        Raises ValueError for a descriptor whose content could still change or is too short.
        """
        self.files = {one.name: one for one in files}
        self._held: int | bytes | None = held
        ends = max((one.offset + one.bytes for one in files), default=0)
        if isinstance(held, int):
            if fcntl.fcntl(held, _GET_SEALS) & _SEALS != _SEALS:
                raise ValueError("the memory file is not sealed")
            if os.fstat(held).st_size < ends:
                raise ValueError("the memory file is shorter than its files")

    @property
    def descriptor(self) -> int | None:
        """The memory file's descriptor, None where the files are plain bytes."""
        return self._held if isinstance(self._held, int) else None

    def read(self, name: str) -> bytes:
        """Return a copy of a file's content."""
        one = self.files[name]
        if isinstance(self._held, int):
            return _pread(self._held, one.bytes, one.offset)
        assert self._held is not None
        return self._held[one.offset : one.offset + one.bytes]

    def view(self, name: str) -> memoryview:
        """Return a file's content where it lies; it stays valid when the files are closed."""
        one = self.files[name]
        if not one.bytes or not isinstance(self._held, int):
            return memoryview(self.read(name))
        # The offset is aligned to pages, or to what is less than them.
        start = one.offset - one.offset % mmap.ALLOCATIONGRANULARITY
        length = one.offset + one.bytes - start
        memory = mmap.mmap(
            self._held, length, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ, offset=start
        )
        return memoryview(memory)[one.offset - start :]

    def kept(self) -> Sealed:
        """Return the same files, open for as long as the caller likes."""
        held = os.dup(self._held) if isinstance(self._held, int) else self._held
        assert held is not None
        return Sealed(tuple(self.files.values()), held)

    def close(self) -> None:
        """Give the memory back once nobody else holds it."""
        if isinstance(self._held, int):
            os.close(self._held)
        self._held = None


class Sealer:
    """Reads files below a root, each once; `seal` ends it."""

    def __init__(self, root: Path, *, max_bytes: int, in_memory_file: bool = True) -> None:
        """Begin with no files; all together may have ``max_bytes``."""
        self.root = root
        self._real = Path(os.path.realpath(root))
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._files: dict[str, SealedFile] = {}
        self._paths: dict[str, Path] = {}
        self._end = 0
        self._memory = _make_memory() if in_memory_file else bytearray()

    def __contains__(self, name: str) -> bool:
        """Whether a file has been read."""
        return name in self._files

    def add(self, name: str, *, expected: int | None = None) -> SealedFile:
        """Read a file; ``expected`` are the bytes that it must have.

        Raises BundleError for what is not there, is not a plain file of the folder, is too large
        or of another size, and FilesChanged for a file that others write to meanwhile.
        """
        if name in self._files:
            return self._files[name]
        path = self._located(name)
        descriptor = _open(path, self.root / name)
        try:
            before = self._checked(descriptor, path, self.root / name)
            if expected is not None and before.st_size != expected:
                raise BundleError(
                    f"{self.root / name}: {before.st_size} bytes, bundle.json says {expected}",
                    Refusal.HASH_MISMATCH,
                )
            self._require_room(name, before.st_size)
            found = SealedFile(name, self._end, *self._copy(descriptor, name), stamp_of(before))
            if found.bytes != before.st_size or stamp_of(os.fstat(descriptor)) != found.stamp:
                raise _changed(self.root / name)
        finally:
            os.close(descriptor)
        self._files[name], self._paths[name] = found, path
        self._left -= found.bytes
        self._end += -(-found.bytes // _ALIGNED) * _ALIGNED
        return found

    def content(self, name: str) -> bytes:
        """Return a copy of what was read."""
        one = self._files[name]
        if isinstance(self._memory, bytearray):
            return bytes(self._memory[one.offset : one.offset + one.bytes])
        return _pread(self._memory, one.bytes, one.offset)

    def seal(self) -> Sealed:
        """Return the files, unchangeable; raises FilesChanged unless all still look as read."""
        for name, one in self._files.items():
            try:
                now = stamp_of(self._paths[name].stat())
            except OSError:
                now = ""
            if now != one.stamp:
                raise _changed(self.root / name)
        memory, self._memory = self._memory, bytearray()
        if isinstance(memory, bytearray):
            return Sealed(tuple(self._files.values()), bytes(memory))
        fcntl.fcntl(memory, _ADD_SEALS, _SEALS)
        return Sealed(tuple(self._files.values()), memory)

    def close(self) -> None:
        """Give back what was read, unless it has been sealed."""
        if not isinstance(self._memory, bytearray):
            os.close(self._memory)
        self._memory = bytearray()

    def _located(self, name: str) -> Path:
        """Return where a file really lies, links within the root followed."""
        path = self.root / name
        try:
            real = Path(os.path.realpath(path, strict=True))
        except OSError as error:
            raise _unreadable(path, error) from error
        if not real.is_relative_to(self._real):
            raise BundleError(
                f"{path}: a link that leads out of the model's folder, to {real}",
                Refusal.UNSAFE_FILE,
            )
        return real

    def _checked(self, descriptor: int, path: Path, shown: Path) -> os.stat_result:
        """Return the properties of what was opened, which must be where it was looked for."""
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _no_file(shown)
        opened = _path_of(descriptor)
        if opened not in (None, path):
            raise _changed(shown)
        if found.st_nlink > 1 and (outside := found.st_nlink - self._names_of(found)) > 0:
            raise BundleError(
                f"{shown}: a hard link; {outside} of its {found.st_nlink} names lie outside the "
                "model's folder",
                Refusal.UNSAFE_FILE,
            )
        return found

    def _names_of(self, file: os.stat_result) -> int:
        """Return how many names below the root a file has."""
        same = 0
        for seen in _tree(self._real):
            same += (seen.st_ino, seen.st_dev) == (file.st_ino, file.st_dev)
        return same

    def _require_room(self, name: str, size: int) -> None:
        if size > self._left:
            raise BundleError(
                f"{self.root / name}: {size} bytes; all files of a version may have "
                f"{self._max_bytes} here",
                Refusal.TOO_LARGE,
            )

    def _copy(self, descriptor: int, name: str) -> tuple[int, str]:
        """Append what a file holds; return its bytes and its hash."""
        digest, size = hashlib.sha256(), 0
        while True:
            try:
                chunk = os.read(descriptor, _CHUNK)
            except OSError as error:
                raise _unreadable(self.root / name, error) from error
            if not chunk:
                return size, digest.hexdigest()
            # A file that grows for ever is found here.
            self._require_room(name, size + len(chunk))
            digest.update(chunk)
            self._write(chunk, self._end + size)
            size += len(chunk)

    def _write(self, chunk: bytes, offset: int) -> None:
        if isinstance(self._memory, bytearray):
            self._memory += bytes(offset - len(self._memory)) + chunk
            return
        written = 0
        while written < len(chunk):
            written += os.pwrite(self._memory, chunk[written:], offset + written)


def _make_memory() -> int | bytearray:
    """Return a memory file to write to, or plain bytes where the system has no sealed ones."""
    if not hasattr(os, "memfd_create"):
        return bytearray()
    return os.memfd_create("onnxport-model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    """Return so many bytes; one call gives at most 2 GiB."""
    first = os.pread(descriptor, size, offset)
    if len(first) == size:
        return first
    parts, done = [first], len(first)
    while done < size:
        parts.append(os.pread(descriptor, size - done, offset + done))
        done += len(parts[-1])
    return b"".join(parts)


def _open(path: Path, shown: Path) -> int:
    try:
        # Opening a device can do something, so only what looks like a file is opened.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise _no_file(shown)
        return os.open(path, _OPEN)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _changed(shown) from error
        raise _unreadable(shown, error) from error


def _path_of(descriptor: int) -> Path | None:
    """Return under which path a descriptor was opened, None where the system does not tell."""
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        return None


def stamp_of(found: os.stat_result) -> str:
    """Return a text that is another one when the file with these properties was changed."""
    return f"{found.st_dev}.{found.st_ino}.{found.st_size}.{found.st_mtime_ns}"


def _tree(folder: Path) -> Iterator[os.stat_result]:
    """Yield the properties of the files at and below a folder, of not too many."""
    seen = 0
    for place, _, names in os.walk(folder):
        for name in names:
            seen += 1
            if seen > MAX_FILES:
                return
            try:
                yield Path(place, name).lstat()
            except OSError:
                continue


def _no_file(path: Path) -> BundleError:
    return BundleError(f"{path}: not a regular file", Refusal.UNSAFE_FILE)


def _changed(path: Path) -> FilesChanged:
    return FilesChanged(f"{path}: changed while it was read")


def _unreadable(path: Path, error: OSError) -> BundleError:
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    code = Refusal.FILE_MISSING if missing else Refusal.UNREADABLE_FILE
    return BundleError(f"{path}: {error.strerror}", code)
