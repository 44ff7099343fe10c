r"""Users' texts in JSON Lines.

The accepted layouts, each file plain or with .gz:

- one file ``mails.jsonl``, split by a column of it or by the seed;
- a folder or archive with ``train.jsonl`` and ``test.jsonl``.

Each line is an object with ``label`` (text or whole number) and ``text``, optionally ``id``, which
must be unique, and the split column with ``train`` or ``test``. Other members are not looked at::

    {"label": "spam", "text": "You have won", "split": "train"}
"""

from __future__ import annotations

import json
from pathlib import Path

from training.data.dataset import DataError, DataSet
from training.data.records import Record, assemble, check_new, check_split
from training.data.sources import MEBIBYTE, gunzip, read_file, read_files
from training.data.spec import DataSpec

_LIMIT = 1024 * MEBIBYTE
MAX_LINE = 4 * MEBIBYTE
_ENDINGS = (".jsonl", ".jsonl.gz")


def load_texts(spec: DataSpec) -> DataSet:
    """Read the texts that ``spec.root`` names."""
    root = Path(spec.root)
    if root.is_file() and root.name.endswith(_ENDINGS):
        raw = _unpacked(root.name, read_file(root, _LIMIT))
        records = read_jsonl(raw, root.name, split_column=spec.split_column)
    else:
        records = _read_parts(root)
    return assemble(records, spec, source=root.name, license="not stated")


def read_jsonl(raw: bytes, where: str, *, split_column: str = "", split: str = "") -> list[Record]:
    """Return the records of JSON Lines, all of them of ``split`` unless they have a column for it.

    Raises DataError with the number of the line for text that is not UTF-8, what is not JSON, a
    missing or empty member and an id that was there before.
    """
    seen: dict[str, str] = {}
    records = []
    lines = raw.removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines, start=1):
        at = f"{where}: line {number}"
        row = _parse(line, at)
        if "id" in row:
            check_new(seen, str(row["id"]), at)
        own = check_split(row.get(split_column), at) if split_column else split
        records.append(Record(at, _label(row, at), own, _text(row, at)))
    return records


def _read_parts(root: Path) -> list[Record]:
    records: list[Record] = []
    found = set()
    for path, raw in read_files(root, lambda name: name.endswith(_ENDINGS), limit=_LIMIT):
        split = path.rpartition("/")[2].removesuffix(".gz").removesuffix(".jsonl")
        if split not in ("train", "test") or split in found:
            raise DataError(f"{root.name}: '{path}' is not the one train.jsonl or test.jsonl")
        found.add(split)
        records += read_jsonl(_unpacked(path, raw), path, split=split)
    if len(found) < 2:
        raise DataError(f"{root.name}: has {sorted(found)}, must have train.jsonl and test.jsonl")
    return records


def _unpacked(name: str, raw: bytes) -> bytes:
    return gunzip(raw, name, _LIMIT) if name.endswith(".gz") else raw


def _parse(line: bytes, at: str) -> dict[str, object]:
    if len(line) > MAX_LINE:
        raise DataError(f"{at}: {len(line)} bytes, at most {MAX_LINE} are allowed")
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{at}: not UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{at}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{at}: a {type(row).__name__}: must be an object")
    return row


def _label(row: dict[str, object], at: str) -> str:
    label = row.get("label")
    if isinstance(label, bool) or not isinstance(label, str | int) or not str(label).strip():
        raise DataError(f"{at}: label {label!r:.80}: must be text or a whole number")
    return _encodable(str(label), at)


def _text(row: dict[str, object], at: str) -> str:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{at}: text {text!r:.80}: must be text that is not empty")
    return _encodable(text, at)


def _encodable(text: str, at: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{at}: half a character at place {error.start}") from error
    return text
