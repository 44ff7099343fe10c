"""What is on disk: the models below a repository, or the one that a path names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from service.bundle import is_bundle, is_version
from service.contract import MODEL_FILE
from service.errors import ConfigurationError
from service.graph import ORT_SUFFIX
from service.logs import printable

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_RESERVED = frozenset({"stats"})
_SUFFIXES = (".onnx", ORT_SUFFIX)


@dataclass(frozen=True, slots=True)
class Found:
    """One version of one model; ``problem`` says why it cannot be loaded, "" if it can be tried."""

    name: str
    version: int
    path: Path
    problem: str = ""

    @property
    def model_file(self) -> Path:
        """The ONNX file itself, or the one in ONNX Runtime's own format where that is all."""
        return self.path if self.path.is_file() else model_file_in(self.path)

    @property
    def is_ort(self) -> bool:
        """Whether the file's name says that it is in ONNX Runtime's own format."""
        return self.model_file.suffix == ORT_SUFFIX

    @property
    def is_bundle(self) -> bool:
        """Whether the version carries its contract and proof."""
        return self.path.is_dir() and is_bundle(self.path)


def model_file_in(folder: Path) -> Path:
    """Return where the model of a version lies; ``model.onnx`` may be a folder, as in Triton."""
    file = folder / MODEL_FILE
    if file.is_dir():
        return file / MODEL_FILE
    ort_file = file.with_suffix(ORT_SUFFIX)
    return ort_file if ort_file.is_file() and not file.exists() else file


def scan(path: Path) -> list[Found]:
    """Return the newest version of every model at ``path``, sorted by name.

    ``path`` is a repository (``<model>/<version>/model.onnx``), the folder of one model, one
    bundle, or one ``.onnx`` or ``.ort`` file.  Hidden names are ignored.  Raises
    ConfigurationError if there is nothing of the kind.
    """
    if path.is_file():
        return [_file(path)]
    if not path.is_dir():
        raise ConfigurationError(f"{path}: no such file or folder")
    if _holds_model(path):
        return [_folder(path.resolve())]
    newest: dict[str, Found] = {}
    for found in _versions(path.resolve()) if _is_model(path) else _repository(path):
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
        if entry.is_file() and entry.suffix in _SUFFIXES:
            yield _found(entry.stem, 1, entry)
        elif entry.is_dir() and _holds_model(entry):
            yield _found(entry.name, 1, entry)
        elif entry.is_dir():
            yield from _versions(entry)


def _is_model(path: Path) -> bool:
    """Whether a folder holds the versions of one model, and nothing else that could be served."""
    entries = [
        entry
        for entry in path.iterdir()
        if not entry.name.startswith(".") and (entry.is_dir() or entry.suffix == ".onnx")
    ]
    versions_only = all(is_version(entry.name) and entry.is_dir() for entry in entries)
    return versions_only and any(_holds_model(entry) for entry in entries)


def _versions(model: Path) -> Iterator[Found]:
    for folder in model.iterdir():
        if is_version(folder.name) and folder.is_dir():
            found = _found(model.name, int(folder.name), folder)
            if not found.problem and not _holds_model(folder):
                found = Found(found.name, found.version, folder, f"{folder}: no {MODEL_FILE}")
            yield found


def _file(path: Path) -> Found:
    if path.suffix not in _SUFFIXES:
        raise ConfigurationError(f"{path}: neither an .onnx nor an .ort file")
    # The file itself may be a link, such as into a mounted volume's current content.
    whole = path.parent.resolve() / path.name
    if path.stem == Path(MODEL_FILE).stem:
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
        # A name that is not UTF-8 could not be written in the index, the metrics or a reason.
        return Found(printable(name), version, path, printable(problem))
    return Found(name, version, path)


def _holds_model(folder: Path) -> bool:
    return model_file_in(folder).exists() or is_bundle(folder)
