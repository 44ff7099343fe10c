"""Answer files without a server: the same bundle, pipeline and engine, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.answers import answers
from service.arrays import load_json
from service.calls import CHUNK, calls_for
from service.errors import ConfigurationError, EngineFailure, InvalidRequest, TooLarge
from service.loader import Loaded, LoadOptions, load_model, options_for
from service.pipeline import NPZ, Row
from service.planning import Policy, wanted
from service.repository import Found, scan

_MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".txt": "text/plain",
    ".npz": NPZ,
}


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """The answer for one instance, and the file that it came from."""

    file: str
    answer: object


def find(model: str, repository: Path) -> Found:
    """Return what a path or the name of a model in the repository means.

    Raises ConfigurationError that says what there is instead.
    """
    path = Path(model)
    if not path.exists() and not repository.exists():
        raise ConfigurationError(f"{model}: no such file, and there is no repository {repository}")
    found = find_all(path) if path.exists() else wanted(scan(repository), Policy())
    matching = found if path.exists() else [one for one in found if one.name == model]
    names = ", ".join(dict.fromkeys(one.name for one in found)) or "no model"
    if len({one.name for one in matching}) == 1:
        return max(matching, key=lambda one: one.version)
    where = path if path.exists() else repository
    raise ConfigurationError(f"{model}: not one model; {where} holds {names}")


def find_all(path: Path) -> list[Found]:
    """Return what a server would load at a path."""
    return wanted(scan(path), Policy())


def load(found: Found, options: LoadOptions) -> Loaded:
    """Load and verify one model in this thread."""
    return load_model(found, options_for(found, options), lambda _: None)


def predict_files(loaded: Loaded, files: Sequence[Path]) -> list[FileAnswer]:
    """Answer pictures, texts, JSON or npz files in order.

    A JSON file is one instance, or a whole request ``{"instances": [...]}``.  Raises
    InvalidRequest, TooLarge or EngineFailure with the file's name.
    """
    return [FileAnswer(str(file), answer) for file in files for answer in _answers(loaded, file)]


def _answers(loaded: Loaded, file: Path) -> list[object]:
    contract = loaded.contract
    outputs = [output.name for output in contract.outputs if not output.auxiliary]
    chunk = CHUNK if contract.batchable else 1
    try:
        rows = _rows(loaded, file)
        return [
            answer
            for call in calls_for(contract.input_specs, loaded.pipeline, rows, chunk=chunk)
            for answer in answers(contract, loaded.engine.run(call.inputs, outputs), call.rows)
        ]
    except (InvalidRequest, TooLarge, EngineFailure) as error:
        raise type(error)(f"{file}: {error}") from error


def _rows(loaded: Loaded, file: Path) -> list[Row]:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    kind = file.suffix.lower()
    if kind == ".json":
        return [loaded.pipeline.parse(instance) for instance in _instances(raw)]
    if kind not in _MEDIA_TYPES:
        known = ", ".join([".json", *_MEDIA_TYPES])
        raise InvalidRequest(f"unknown kind of file '{kind}'; known are {known}")
    return [loaded.pipeline.decode(raw, _MEDIA_TYPES[kind])]


def _instances(raw: bytes) -> list[object]:
    value = load_json(raw, "file")
    if isinstance(value, dict) and isinstance(value.get("instances"), list):
        if not value["instances"]:
            raise InvalidRequest("instances: empty, at least one is needed")
        return list(value["instances"])
    return [value]
