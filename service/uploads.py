"""A model that comes with the request to load it: what may be in it, and where it is kept."""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from service.errors import InvalidRequest, NotBuilt
from service.serving import MAX_ROWS, MAX_WAIT_MS, SERVING_FILE

CONFIG: Final = "config"
FILE: Final = "file:"
_MOST_FILES: Final = 256
_DEEPEST: Final = 8
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Upload:
    """Files by their path below the model's folder, such as ``1/model.onnx``."""

    files: Mapping[str, bytes]


def is_upload(key: str) -> bool:
    """Whether a parameter of a request to load brings something along."""
    return key == CONFIG or key.startswith(FILE)


def upload_of(parameters: Mapping[str, Any]) -> Upload | None:
    """Return what a request brings along, None for nothing.

    ``file:<version>/<path>`` are files in base64, ``config`` is Triton's configuration as a text
    of JSON; of it the version policy, the largest batch and the delay of a batch are taken.
    Raises InvalidRequest that names the key, or NotBuilt for a configuration without files.
    """
    given = {key: value for key, value in parameters.items() if is_upload(key)}
    if not given:
        return None
    config = _config(given.pop(CONFIG, None))
    if not given:
        raise NotBuilt(
            f"parameters.{CONFIG}: without files it has no meaning here; put what the server "
            f"should do with a model on disk into its {SERVING_FILE}"
        )
    if config is None:
        raise InvalidRequest(f"parameters: files need a {CONFIG} beside them, '{{}}' will do")
    if len(given) > _MOST_FILES:
        raise InvalidRequest(f"parameters: {len(given)} files, at most {_MOST_FILES}")
    files = {_path(key): _content(key, value) for key, value in given.items()}
    rules = _rules(config)
    return Upload({**files, SERVING_FILE: rules.encode()} if rules else files)


def _config(value: object) -> Mapping[str, Any] | None:
    if value is None:
        return None
    where = f"parameters.{CONFIG}"
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}: expected a text that holds JSON")
    try:
        config = json.loads(value) if value.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidRequest(f"{where}: expected an object")
    return config


def _path(key: str) -> str:
    """Return the path of a file; only plain names lead below the folder and nowhere else."""
    path = key.removeprefix(FILE)
    version, *rest = path.split("/")
    plain = all(_PART.fullmatch(part) for part in rest)
    if not (_VERSION.fullmatch(version) and rest and plain and len(rest) <= _DEEPEST):
        raise InvalidRequest(
            f"parameters.{key[:80]}: expected {FILE}<version>/<path> of plain names, such as "
            f"{FILE}1/model.onnx"
        )
    return path


def _content(key: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise InvalidRequest(f"parameters.{key[:80]}: expected a text in base64")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"parameters.{key[:80]}: not base64: {error}") from error


def _rules(config: Mapping[str, Any]) -> str:
    """Return what of Triton's configuration has a meaning here, as a `serving.toml`."""
    lines, batching = [], []
    policy = config.get("version_policy")
    match policy:
        case {"all": _}:
            lines.append('versions = "all"')
        case {"latest": {"num_versions": int(number)}} if number > 0:
            lines.append(f"versions = {{latest = {number}}}")
        case {"specific": {"versions": [_, *_] as numbers}} if all(map(_is_version, numbers)):
            lines.append(f"versions = {{specific = {sorted({int(n) for n in numbers})}}}")
        case None:
            pass
        case _:
            raise InvalidRequest(f"parameters.{CONFIG}: version_policy: got {policy!r:.80}")
    rows = config.get("max_batch_size")
    if isinstance(rows, int) and 1 <= rows <= MAX_ROWS:
        batching.append(f"max_rows = {rows}")
    delay = config.get("dynamic_batching")
    delay = delay.get("max_queue_delay_microseconds") if isinstance(delay, dict) else None
    if isinstance(delay, int) and 0 < delay <= MAX_WAIT_MS * 1000:
        batching.append(f"max_wait_ms = {delay / 1000}")
    if batching:
        lines += ["[batching]", *batching]
    return "\n".join([*lines, ""]) if lines else ""


def _is_version(value: object) -> bool:
    return _VERSION.fullmatch(str(value)) is not None and not isinstance(value, bool)


def write_upload(root: Path, name: str, upload: Upload) -> Path:
    """Write the files into a new folder below ``root`` that nobody else may read; return it.

    It is a repository with one model.  Raises InvalidRequest for a name that no model can have.
    """
    if _PART.fullmatch(name) is None:
        raise InvalidRequest(f"'{name[:80]}' cannot be a model's name")
    folder = Path(tempfile.mkdtemp(prefix="load-", dir=root))
    try:
        for path, content in upload.files.items():
            file = folder / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            # Two keys may name a file and a folder alike.
            with file.open("xb") as stream:
                stream.write(content)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InvalidRequest(f"parameters: the files cannot be kept: {error.strerror}") from error
    return folder
