"""What is on disk: the models below a repository, or the one that a path names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from service.bundle import is_bundle, is_version
from service.contract import MODEL_FILE
from service.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_RESERVED = frozenset({"stats"})


@dataclass(frozen=True, slots=True)
class Found:
    """One version of one model; ``problem`` says why it cannot be loaded, "" if it can be tried."""

    name: str
    version: int
    path: Path
    problem: str = ""

    @property
    def model_file(self) -> Path:
        """The ONNX file itself."""
        return self.path if self.path.is_file() else self.path / MODEL_FILE

    @property
    def is_bundle(self) -> bool:
        """Whether the version carries its contract and proof."""
        return self.path.is_dir() and is_bundle(self.path)


def scan(path: Path) -> list[Found]:
    """Return the newest version of every model at ``path``, sorted by name.

    ``path`` is a repository (``<model>/<version>/model.onnx``), the folder of one model
    (``<version>/model.onnx``), one bundle, or one ``.onnx`` file.  Hidden names are ignored.
    Raises ConfigurationError if there is nothing of the kind.
    """
    if path.is_file():
        return [_file(path)]
    if not path.is_dir():
        raise ConfigurationError(f"{path}: no such file or folder")
    if _holds_model(path):
        return [_folder(path.resolve())]
    newest: dict[str, Found] = {}
    one_model = _holds_versions(path)
    for found in _versions(path.resolve()) if one_model else _repository(path):
        known = newest.get(found.name)
        if known is None or found.version > known.version:
            newest[found.name] = found
    return [newest[name] for name in sorted(newest)]


def named(found: Sequence[Found], name: str) -> list[Found]:
    """Return the only model under another name; several models keep theirs, "" changes nothing."""
    if not name or len({one.name for one in found}) != 1:
        return list(found)
    return [_renamed(one, name) for one in found]


def _renamed(one: Found, name: str) -> Found:
    renamed = _found(name, one.version, one.path)
    # What was wrong with the old name alone is wrong no longer.
    if one.problem and one.problem != _found(one.name, one.version, one.path).problem:
        return replace(renamed, problem=one.problem)
    return renamed


def _repository(root: Path) -> Iterator[Found]:
    for entry in sorted(root.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_file() and entry.suffix == ".onnx":
            yield _found(entry.stem, 1, entry)
        elif entry.is_dir() and _holds_model(entry):
            yield _found(entry.name, 1, entry)
        elif entry.is_dir():
            yield from _versions(entry)


def _versions(model: Path) -> Iterator[Found]:
    for folder in model.iterdir():
        if is_version(folder.name) and folder.is_dir():
            found = _found(model.name, int(folder.name), folder)
            if not found.problem and not _holds_model(folder):
                found = Found(found.name, found.version, folder, f"{folder}: no {MODEL_FILE}")
            yield found


def _file(path: Path) -> Found:
    if path.suffix != ".onnx":
        raise ConfigurationError(f"{path}: not an .onnx file")
    whole = path.resolve()
    if path.name == MODEL_FILE:
        folder = _folder(whole.parent)
        return Found(folder.name, folder.version, whole, folder.problem)
    return _found(path.stem, 1, whole)


def _folder(path: Path) -> Found:
    if is_version(path.name):
        return _found(path.parent.name, int(path.name), path)
    return _found(path.name, 1, path)


def _found(name: str, version: int, path: Path) -> Found:
    if _NAME.fullmatch(name) is None or name in _RESERVED:
        problem = f"{path}: '{name}' cannot be a model's name; use letters, digits, '.', '_', '-'"
        return Found(name, version, path, problem)
    return Found(name, version, path)


def _holds_versions(folder: Path) -> bool:
    """Whether a folder is one model: its visible entries are versions, and one holds a model."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    folders = [entry for entry in entries if entry.is_dir()]
    return (
        all(is_version(entry.name) for entry in folders)
        and any(_holds_model(entry) for entry in folders)
        and not any(entry.suffix == ".onnx" for entry in entries)
    )


def _holds_model(folder: Path) -> bool:
    return (folder / MODEL_FILE).exists() or is_bundle(folder)
