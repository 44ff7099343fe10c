"""What is on disk: the models below a repository, or the one that a path names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from service.bundle import is_bundle, is_version
from service.contract import MODEL_FILE
from service.errors import ConfigurationError
from service.fingerprints import fingerprint_of
from service.graph import ORT_SUFFIX
from service.logs import printable
from service.serving import SERVING_FILE, ServingRules, read_rules

TRITON_FILE = "config.pbtxt"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_RESERVED = frozenset({"stats"})
_SUFFIXES = (".onnx", ORT_SUFFIX)


@dataclass(frozen=True, slots=True)
class Found:
    """One version of one model; ``problem`` says why it cannot be loaded, "" if it can be tried.

    ``rules`` are those of the whole model, from its `serving.toml`; ``notes`` are what its user
    should know of the model's folder.  ``fingerprint`` says how its files looked when it was
    found, "" if nobody has looked.
    """

    name: str
    version: int
    path: Path
    problem: str = ""
    rules: ServingRules = field(default_factory=ServingRules)
    notes: tuple[str, ...] = ()
    fingerprint: str = field(default="", compare=False)

    @property
    def has_changed(self) -> bool:
        """Whether its files are others than those that were found."""
        return bool(self.fingerprint) and fingerprint_of(self.path) != self.fingerprint

    @property
    def model_file(self) -> Path:
        """The ONNX file itself, or the one in ONNX Runtime's own format where that is all."""
        return self.path if self.path.is_file() else model_file_in(self.path)

    def told(self, text: str) -> str:
        """Return a text for callers: with paths as they are below the repository.

        Where a server keeps its models is nobody's business but its operator's.
        """
        has_version = is_version(self.path.name) and self.path.name != self.name
        root = self.path.parents[1 if has_version else 0]
        for prefix in {str(root), str(root.absolute()), str(root.resolve())} - {"/", "."}:
            text = re.sub(rf"(?<![\w./-]){re.escape(prefix)}/", "", text)
        return text

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
    """Return every version of every model at ``path``, sorted by name and version.

    ``path`` is a repository (``<model>/<version>/model.onnx``), the folder of one model, one
    bundle, or one ``.onnx`` or ``.ort`` file.  Hidden names are ignored.  Raises
    ConfigurationError if there is nothing of the kind.
    """
    return [_stamped(found) for found in _scan(path)]


def scan_one(repository: Path, name: str) -> list[Found]:
    """Return the versions of one model in a repository, none if it has gone.

    Raises ConfigurationError if the repository itself has.
    """
    if not repository.is_dir():
        raise ConfigurationError(f"{repository}: no such folder")
    for entry in (repository / name, *(repository / f"{name}{suffix}" for suffix in _SUFFIXES)):
        versions = _model_or_trouble(entry)
        if versions:
            return [_stamped(found) for found in versions]
    return []


def _stamped(found: Found) -> Found:
    return replace(found, fingerprint=fingerprint_of(found.path))


def _scan(path: Path) -> list[Found]:
    if path.is_file():
        return [_file(path)]
    if not path.is_dir():
        raise ConfigurationError(f"{path}: no such file or folder")
    if _holds_model(path):
        return [_folder(path.resolve())]
    if _is_model(path):
        return _versions(path.resolve())
    # Where a folder and a file claim the same name, the folder comes first and has it.
    models: dict[str, list[Found]] = {}
    for versions in _repository(path):
        models.setdefault(versions[0].name, versions)
    return [found for name in sorted(models) for found in models[name]]


def named(found: Sequence[Found], name: str) -> list[Found]:
    """Return the only model under another name; several models keep theirs, "" changes nothing."""
    if not name or len({one.name for one in found}) != 1:
        return list(found)
    return [_renamed(one, name) for one in found]


def _renamed(one: Found, name: str) -> Found:
    renamed = replace(one, name=name, problem=_found(name, one.version, one.path).problem)
    # What was wrong with the old name alone is wrong no longer.
    if one.problem and one.problem != _found(one.name, one.version, one.path).problem:
        return replace(renamed, problem=one.problem)
    return renamed


def _repository(root: Path) -> Iterator[list[Found]]:
    """Yield the versions of each model, never none."""
    for entry in sorted(root.iterdir()):
        if entry.name.startswith("."):
            continue
        versions = _model_or_trouble(entry)
        if versions:
            yield versions


def _model_or_trouble(entry: Path) -> list[Found]:
    try:
        return _model(entry)
    except OSError as error:
        # What cannot be read is this one model's trouble.
        problem = f"{entry}: {error.strerror}"
        return [replace(_found(entry.name, 1, entry), problem=problem)]


def _model(entry: Path) -> list[Found]:
    if entry.is_file():
        return [_found(entry.stem, 1, entry)] if entry.suffix in _SUFFIXES else []
    if not entry.is_dir():
        return []
    if _holds_model(entry):
        return [_ruled(_found(entry.name, 1, entry), entry)]
    return _versions(entry)


def _is_model(path: Path) -> bool:
    """Whether a folder holds the versions of one model, and nothing else that could be served."""
    entries = [
        entry
        for entry in path.iterdir()
        if not entry.name.startswith(".") and (entry.is_dir() or entry.suffix == ".onnx")
    ]
    versions_only = all(is_version(entry.name) and entry.is_dir() for entry in entries)
    return versions_only and any(_holds_model(entry) for entry in entries)


def _versions(model: Path) -> list[Found]:
    folders = {int(f.name): f for f in model.iterdir() if is_version(f.name) and f.is_dir()}
    versions = []
    for number in sorted(folders):
        folder = folders[number]
        found = _ruled(_found(model.name, number, folder), model)
        if not found.problem and not _holds_model(folder):
            found = replace(found, problem=f"{folder}: no {MODEL_FILE}")
        versions.append(found)
    return versions


def _ruled(found: Found, model: Path) -> Found:
    """Return the version with the rules and notes of its model's folder.

    Rules that cannot be read are a problem of this one model, never of the server.
    """
    notes: tuple[str, ...] = ()
    if (model / TRITON_FILE).exists():
        notes = (f"{TRITON_FILE} is ignored; what it says can be said in {SERVING_FILE}",)
    try:
        return replace(found, rules=read_rules(model), notes=notes)
    except ConfigurationError as error:
        return replace(found, problem=found.problem or str(error), notes=notes)


def _file(path: Path) -> Found:
    if path.suffix not in _SUFFIXES:
        raise ConfigurationError(f"{path}: neither an .onnx nor an .ort file")
    # The file itself may be a link, such as into a mounted volume's current content.
    whole = path.parent.resolve() / path.name
    if path.stem == Path(MODEL_FILE).stem:
        folder = _folder(whole.parent)
        return replace(folder, path=whole)
    return _found(path.stem, 1, whole)


def _folder(path: Path) -> Found:
    """Return the version in a folder; named by itself, it is not subject to its model's rules."""
    if is_version(path.name):
        return _found(path.parent.name, int(path.name), path)
    return _ruled(_found(path.name, 1, path), path)


def _found(name: str, version: int, path: Path) -> Found:
    if _NAME.fullmatch(name) is None or name in _RESERVED:
        problem = f"{path}: '{name}' cannot be a model's name; use letters, digits, '.', '_', '-'"
        # A name that is not UTF-8 could not be written in the index, the metrics or a reason.
        return Found(printable(name), version, path, printable(problem))
    return Found(name, version, path)


def _holds_model(folder: Path) -> bool:
    return model_file_in(folder).exists() or is_bundle(folder)
