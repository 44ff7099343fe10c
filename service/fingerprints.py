"""What a repository looks like from outside: properties of its files, never their content.

Cheap enough to be done every second, and without a library that a supervisor should not load.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WHOLE: Final = "*"
OWN: Final = ""
_MANIFEST: Final = "bundle.json"
_MODELS: Final = ("model.onnx", "model.ort")
_SUFFIXES: Final = (".onnx", ".ort")
_MAX_MANIFEST_BYTES: Final = 16 << 20
# Links may lead in circles, and a folder that was named by mistake may be a whole disk.
_DEEPEST: Final = 8
_MOST_FILES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Print:
    """How one part of a model looks: ``fingerprint`` is "" where it is gone.

    ``complete`` is False where its own files say that more is to come.
    """

    fingerprint: str
    complete: bool = True


Sight = Mapping[str, Mapping[str, Print]]
"""By model, and below that by version, what is there; `OWN` is what lies beside the versions."""


def fingerprint_of(path: Path) -> str:
    """Return a text that is another one when a visible file at or below the path has changed."""
    lines = sorted(f"{name}\0{properties}" for name, properties in _files(path))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def look(root: Path, *, whole: bool = False) -> Sight:
    """Return how every model of a repository looks; raises OSError where it cannot be read.

    A root that is one model or one file is seen as a single model called `WHOLE`, and so is a
    repository where ``whole`` says that its models are named by what else is there.
    """
    if root.is_file() or _holds_model(root):
        return {WHOLE: {OWN: _print_of(root)}}
    entries = _visible(root)
    if any(_is_version(entry) for entry in entries):
        return {WHOLE: _parts(root)}
    found: dict[str, dict[str, Print]] = {}
    for entry in entries:
        if entry.suffix in _SUFFIXES and entry.is_file():
            found.setdefault(entry.stem, {})[entry.suffix] = Print(fingerprint_of(entry))
        elif entry.is_dir():
            found.setdefault(entry.name, {}).update(_parts(entry))
    if not whole:
        return found
    if len(found) == 1:
        return {WHOLE: next(iter(found.values()))}
    return {
        WHOLE: {f"{name}/{part}": p for name, parts in found.items() for part, p in parts.items()}
    }


def _parts(model: Path) -> dict[str, Print]:
    """Return the prints of a model's versions, and of what lies beside them."""
    try:
        entries = _visible(model)
    except OSError as error:
        return {OWN: Print(f"errno {error.errno}")}
    versions = [entry for entry in entries if _is_version(entry)]
    parts = {version.name: _print_of(version) for version in versions}
    if any((version / _MANIFEST).is_file() for version in versions):
        # Beside bundles a version without a manifest is one whose manifest has not come yet.
        parts = {name: _expecting(model / name, seen) for name, seen in parts.items()}
    rest = [f"{entry.name} {fingerprint_of(entry)}" for entry in entries if entry not in versions]
    own = hashlib.sha256("\n".join(rest).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    flat = not versions and _holds_model(model)
    parts[OWN] = Print(own, complete=is_complete(model) if flat else True)
    return parts


def _print_of(path: Path) -> Print:
    return Print(fingerprint_of(path), is_complete(path))


def _expecting(version: Path, seen: Print) -> Print:
    return seen if (version / _MANIFEST).is_file() else Print(seen.fingerprint, complete=False)


def is_complete(path: Path) -> bool:
    """Whether a version has all that it says it has; only sizes are compared.

    A bare file says nothing of itself and counts as complete unless it is empty.
    """
    if path.is_file():
        return path.stat().st_size > 0
    manifest = path / _MANIFEST
    if not manifest.is_file():
        return any((path / name).is_dir() or _size(path / name) > 0 for name in _MODELS)
    listed = _listed(manifest)
    return listed is not None and all(_size(path / name) == size for name, size in listed)


def _listed(manifest: Path) -> list[tuple[str, int]] | None:
    """Return names and sizes of the files of a bundle, None where the list itself is cut off."""
    try:
        if manifest.stat().st_size > _MAX_MANIFEST_BYTES:
            return []
        members = json.loads(manifest.read_bytes())
        return [(str(name), int(one["bytes"])) for name, one in members["files"].items()]
    except (OSError, ValueError, RecursionError):
        return None
    except (KeyError, TypeError, AttributeError):
        # It is whole, but no manifest: a load finds the words for it.
        return []


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except (OSError, ValueError):
        return -1


def _files(path: Path, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the names and properties of a file, or of the visible files and folders below."""
    try:
        seen = path.stat()
    except OSError as error:
        yield "", f"errno {error.errno}"
        return
    if not stat.S_ISDIR(seen.st_mode):
        # The change time, too: a file that is overwritten may keep size and modification time.
        yield "", f"{seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_ino}"
        return
    yield "", "folder"
    if depth < _DEEPEST:
        for number, entry in enumerate(_visible_or_none(path)):
            if number >= _MOST_FILES:
                return
            for name, properties in _files(entry, depth + 1):
                yield f"{entry.name}/{name}", properties


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _visible_or_none(folder: Path) -> list[Path]:
    try:
        return _visible(folder)
    except OSError:
        return []


def _is_version(path: Path) -> bool:
    name = path.name
    digits = name.isascii() and name.isdecimal() and not name.startswith("0") and len(name) <= 18
    return digits and path.is_dir()


def _holds_model(folder: Path) -> bool:
    return any((folder / name).exists() for name in (*_MODELS, _MANIFEST))
