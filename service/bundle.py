"""Bundles on disk: read, check against their hashes, and write them so that they appear whole."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from service.arrays import kind_of, load_json
from service.contract import MODEL_FILE, SCHEMA_VERSION, Contract, Manifest
from service.errors import BundleError, InvalidRequest
from service.refusals import Refusal
from service.sealed import Sealed, Sealer

MANIFEST_FILE = "bundle.json"
GOLDEN_FILE = "golden.npz"
REPORTS = ("metrics", "parity", "data_stats", "precision")
MAX_MANIFEST_BYTES = 16 << 20
# No export lasts for a day without writing a file.
_AT_WORK_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Bundle:
    """One exported version of one model, its manifest already checked against its digest.

    ``sealed`` are its files where they have been read, else they are read from ``path``.
    """

    path: Path
    manifest: Manifest
    sealed: Sealed | None = field(default=None, compare=False)

    def read(self, name: str) -> bytes:
        """Return a listed file's content; raise BundleError if its size or hash does not hold."""
        if name not in self.manifest.files:
            raise BundleError(
                f"{self.path / name}: not listed in {MANIFEST_FILE}", Refusal.FILE_MISSING
            )
        if self.sealed is not None:
            one = self.sealed.files[name]
            self._check(name, one.bytes, one.sha256)
            return self.sealed.read(name)
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{self.path / name}: {error.strerror}") from error
        self._check(name, len(content), hashlib.sha256(content).hexdigest())
        return content

    def _check(self, name: str, size: int, sha256: str) -> None:
        entry = self.manifest.files[name]
        if size != entry.bytes:
            raise BundleError(
                f"{self.path / name}: {size} bytes, {MANIFEST_FILE} says {entry.bytes}",
                Refusal.HASH_MISMATCH,
            )
        if sha256 != entry.sha256:
            raise BundleError(
                f"{self.path / name}: sha256 is {sha256}, {MANIFEST_FILE} says {entry.sha256}",
                Refusal.HASH_MISMATCH,
            )

    def report(self, name: str) -> dict[str, Any] | None:
        """Return ``<name>.json`` as an object, or None where the bundle has no such report."""
        file = f"{name}.json"
        if file not in self.manifest.files:
            return None
        try:
            content = load_json(self.read(file), str(self.path / file))
            # As model-info will show it; a report may be nested deeper than can be written.
            orjson.dumps({name: content})
        except (InvalidRequest, orjson.JSONEncodeError) as error:
            text = f"{self.path / file}: not a report: {error}"
            raise BundleError(text, Refusal.INVALID_REPORT) from error
        if not isinstance(content, dict):
            text = f"{self.path / file}: expected an object, got {kind_of(content)}"
            raise BundleError(text, Refusal.INVALID_REPORT)
        return content

    def verify_files(self) -> None:
        """Raise BundleError unless the folder holds exactly the listed files, unchanged."""
        self._check_listed(_visible_files(self.path))
        for name in self.manifest.files:
            self.read(name)

    def take_into(self, sealer: Sealer) -> None:
        """Read all files, as `verify_files` does, into memory.

        In a mounted volume they may be links to files within the folder.
        """
        self._check_listed(_visible_files(self.path, links=True))
        for name, entry in self.manifest.files.items():
            one = sealer.add(name, expected=entry.bytes)
            self._check(name, one.bytes, one.sha256)

    def _check_listed(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.manifest.files and name != MANIFEST_FILE:
                raise BundleError(
                    f"{self.path / name}: not listed in {MANIFEST_FILE}", Refusal.FILE_UNLISTED
                )


def is_bundle(path: Path) -> bool:
    """Whether the folder says of itself that it is a bundle."""
    return (path / MANIFEST_FILE).is_file()


def read_bundle(path: Path) -> Bundle:
    """Read a bundle's manifest; raise BundleError if it is damaged or not in canonical form."""
    file = path / MANIFEST_FILE
    try:
        _check_size(file)
        content = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: {error.strerror}") from error
    return Bundle(path, _manifest_of(content, file))


def take_bundle(path: Path, sealer: Sealer) -> Bundle:
    """Read a bundle's manifest into memory; raises as `read_bundle` and `Sealer.add` do."""
    file = path / MANIFEST_FILE
    try:
        _check_size(file)
    except OSError as error:
        raise BundleError(f"{file}: {error.strerror}", Refusal.INVALID_MANIFEST) from error
    sealer.add(MANIFEST_FILE)
    return Bundle(path, _manifest_of(sealer.content(MANIFEST_FILE), file))


def _check_size(file: Path) -> None:
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        text = f"{file}: larger than {MAX_MANIFEST_BYTES} bytes"
        raise BundleError(text, Refusal.INVALID_MANIFEST)


def _manifest_of(content: bytes, file: Path) -> Manifest:
    """Return what the content of ``bundle.json`` says, if it has not been changed."""
    try:
        return _unchanged(load_json(content, str(file)), content, file)
    except (InvalidRequest, BundleError) as error:
        raise BundleError(str(error), Refusal.INVALID_MANIFEST) from error


def _unchanged(members: object, content: bytes, file: Path) -> Manifest:
    if not isinstance(members, dict):
        raise BundleError(f"{file}: expected an object, got {kind_of(members)}")
    version = members.get("schema_version")
    # True is 1 in Python, and 1.0 too.
    if type(version) is not int or version != SCHEMA_VERSION:
        raise BundleError(
            f"{file}: schema_version is {version!r}, this release reads {SCHEMA_VERSION}"
        )
    if _canonical_of(members, file) != content:
        raise BundleError(f"{file}: not in canonical form, so it was edited or damaged")
    if digest(members) != members.get("digest"):
        raise BundleError(f"{file}: digest is {members.get('digest')}, not {digest(members)}")
    return _validated(members, file)


def _canonical_of(members: Mapping[str, Any], file: Path) -> bytes:
    try:
        return canonical(members)
    except BundleError as error:
        raise BundleError(f"{file}: {error}") from error


def _validated(members: dict[str, Any], file: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(canonical(members))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "bundle"
        raise BundleError(f"{file}: {where}: {first['msg']}") from error


def canonical(members: Mapping[str, Any]) -> bytes:
    """Return sorted keys, no blanks, UTF-8 and one final newline: one form for one content."""
    try:
        text = json.dumps(
            members, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return f"{text}\n".encode()
    except (ValueError, RecursionError) as error:
        raise BundleError(f"no canonical form: {error}") from error


def digest(members: Mapping[str, Any]) -> str:
    """Return the bundle's digest: sha256 of the canonical form without the member ``digest``."""
    rest = {key: value for key, value in members.items() if key != "digest"}
    return hashlib.sha256(canonical(rest)).hexdigest()


def seal(folder: Path, contract: Contract, producer: Mapping[str, str]) -> Bundle:
    """Write ``bundle.json`` over the files that lie in ``folder``, which completes the bundle."""
    names = [name for name in _visible_files(folder) if name != MANIFEST_FILE]
    files = {name: entry_of(folder / name) for name in names}
    members = {
        **contract.model_dump(mode="json"),
        "schema_version": SCHEMA_VERSION,
        "producer": dict(producer),
        "files": files,
    }
    members["digest"] = digest(members)
    manifest = _validated(members, folder / MANIFEST_FILE)
    (folder / MANIFEST_FILE).write_bytes(canonical(members))
    return Bundle(folder, manifest)


def entry_of(file: Path) -> dict[str, str | int]:
    """Return a file's sha256 and its bytes, as ``bundle.json`` lists them."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"sha256": digest, "bytes": stream.tell()}


def _visible_files(folder: Path, *, links: bool = False) -> list[str]:
    """Return the paths of all files that are not hidden; anything but files is refused.

    With ``links`` a link to a file counts as one, and what lies behind a link to a folder is not
    looked for; what they lead to is not checked here.
    """
    names = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode) or (links and stat.S_ISLNK(mode) and path.is_dir()):
            continue
        if not stat.S_ISREG(mode) and not (links and stat.S_ISLNK(mode)):
            raise BundleError(f"{path}: neither a file nor a folder", Refusal.UNSAFE_FILE)
        names.append(name)
    return names


def next_version(model: Path) -> int:
    """Return one more than the highest version below the model's folder, at least 1."""
    if not model.is_dir():
        return 1
    return 1 + max((int(p.name) for p in model.iterdir() if is_version(p.name)), default=0)


def is_version(name: str) -> bool:
    """Whether a folder's name is a version: a positive decimal integer without a leading zero."""
    return name.isascii() and name.isdecimal() and not name.startswith("0") and len(name) <= 18


@contextmanager
def publishing(model: Path, version: int) -> Iterator[Path]:
    """Yield a hidden folder that becomes ``model/version`` at the end, or vanishes on an error.

    The files and the folder are on disk before the rename, so a reader, and a machine that loses
    power, sees the whole bundle or none.  Raises BundleError if the version is there already.
    """
    if not is_version(str(version)):
        raise BundleError(f"{model}: version {version}, must be 1 or more and below 10^18")
    model.mkdir(parents=True, exist_ok=True)
    _remove_remains(model)
    target = model / str(version)
    _require_free(target)
    # By chance and not by process: two containers may have the same number for theirs.
    hidden = model / f".{version}.{secrets.token_hex(8)}.partial"
    hidden.mkdir()
    try:
        yield hidden
        _require_complete(hidden)
        _sync_tree(hidden)
        try:
            # A folder only replaces an empty one, so two exporters cannot overwrite each other.
            hidden.rename(target)
        except OSError:
            _require_free(target)
            raise
        _sync(model)
    except BaseException:
        # Ctrl-C as well: an interrupted export leaves no half bundle.
        shutil.rmtree(hidden, ignore_errors=True)
        raise


def _require_free(target: Path) -> None:
    if os.path.lexists(target):
        raise BundleError(f"{target}: exists already; a version is never overwritten")


def _remove_remains(model: Path) -> None:
    """Remove what exporters left behind that were killed, once they cannot be at work."""
    for hidden in model.glob(".*.partial"):
        # Another exporter may publish or remove it meanwhile.
        with suppress(OSError):
            if time.time() - hidden.stat().st_mtime > _AT_WORK_SECONDS:
                shutil.rmtree(hidden, ignore_errors=True)


def _require_complete(folder: Path) -> None:
    if not (folder / MODEL_FILE).is_file() or not is_bundle(folder):
        raise BundleError(f"{folder}: {MODEL_FILE} or {MANIFEST_FILE} is missing, not published")


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
