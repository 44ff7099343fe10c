"""Users' series of one or more channels, of any lengths.

The accepted layouts:

- one ``.npz`` with ``values`` [all times, channels] (floats, the series one after the other),
  ``lengths`` [n] and ``labels`` [n] (whole numbers or texts); optionally ``classes`` (texts that
  whole-number labels point into), ``split`` [n] (``train`` or ``test``) or ``n_train`` (so many
  first series train), ``ids`` [n] (unique);
- one ``.csv`` with a header, a row for each series of one channel: columns ``label``, optionally
  ``id`` and the split column, and every other column one step of time. A shorter series leaves its
  last cells empty;
- a folder or archive ``CLASS/series.npz`` or ``CLASS/series.csv``, or the same under ``train/`` and
  ``test/``: each file one series, as ``values`` [time, channels] or as rows of numbers, one row a
  step, one column a channel, below an optional line of names.

Values must be finite; all series have the same channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataError, DataSet
from training.data.npz import cut, read_npz, whole_numbers
from training.data.records import Record, assemble, check_layout, check_new, check_split, place
from training.data.sources import MEBIBYTE, read_file, read_files
from training.data.spec import DataSpec
from training.data.tables import read_rows, read_series, read_table

_LIMIT = 2048 * MEBIBYTE
_ENDINGS = (".npz", ".csv")


def load_series(spec: DataSpec) -> DataSet:
    """Read the series that ``spec.root`` names."""
    root = Path(spec.root)
    if root.is_file() and root.suffix == ".npz":
        records = records_of_npz(read_file(root, _LIMIT), root.name)
    elif root.is_file() and root.suffix == ".csv":
        records = _records_of_csv(read_file(root, _LIMIT), root.name, spec.split_column)
    else:
        records = _records_of_folder(root)
    return assemble(records, spec, source=root.name, license="not stated")


def records_of_npz(raw: bytes, where: str) -> list[Record]:
    """Return the series of one .npz file that holds them all."""
    arrays = read_npz(raw, where, limit=_LIMIT)
    missing = [name for name in ("values", "lengths", "labels") if name not in arrays]
    if missing:
        raise DataError(f"{where}: {', '.join(missing)} missing, has {sorted(arrays)[:20]}")
    series = cut(arrays["values"], _column(arrays, "lengths", where, None), where)
    labels = _labels(arrays, where, len(series))
    splits = _splits(arrays, where, len(series))
    _check_ids(arrays, where, len(series))
    return [
        Record(f"{where}: record {i}", labels[i], splits[i], one) for i, one in enumerate(series)
    ]


def _column(
    arrays: dict[str, NDArray[Any]], name: str, where: str, length: int | None
) -> NDArray[np.int64]:
    return whole_numbers(_flat(arrays, name, where, length), f"{where}: '{name}'")


def _flat(
    arrays: dict[str, NDArray[Any]], name: str, where: str, length: int | None
) -> NDArray[Any]:
    column = arrays[name]
    if column.ndim != 1 or (length is not None and len(column) != length):
        wanted = "n" if length is None else length
        raise DataError(f"{where}: '{name}' has shape {list(column.shape)}: must be [{wanted}]")
    return column


def _labels(arrays: dict[str, NDArray[Any]], where: str, length: int) -> list[str]:
    column = _flat(arrays, "labels", where, length)
    if column.dtype.kind == "U":
        return [str(label) for label in column.tolist()]
    numbers = whole_numbers(column, f"{where}: 'labels'").tolist()
    if "classes" not in arrays:
        return [str(number) for number in numbers]
    names = [str(name) for name in _flat(arrays, "classes", where, None).tolist()]
    for i, number in enumerate(numbers):
        if not 0 <= number < len(names):
            raise DataError(f"{where}: label {number} at record {i}: must be 0..{len(names) - 1}")
    return [names[number] for number in numbers]


def _splits(arrays: dict[str, NDArray[Any]], where: str, length: int) -> list[str]:
    if "split" in arrays:
        column = _flat(arrays, "split", where, length).tolist()
        return [check_split(value, f"{where}: record {i}") for i, value in enumerate(column)]
    if "n_train" not in arrays:
        return [""] * length
    border = int(whole_numbers(arrays["n_train"].reshape(-1), f"{where}: 'n_train'")[:1].sum())
    if arrays["n_train"].size != 1 or not 0 < border < length:
        raise DataError(f"{where}: n_train {arrays['n_train']}: must be 1..{length - 1}")
    return ["train"] * border + ["test"] * (length - border)


def _check_ids(arrays: dict[str, NDArray[Any]], where: str, length: int) -> None:
    seen: dict[str, str] = {}
    if "ids" in arrays:
        for i, key in enumerate(_flat(arrays, "ids", where, length).tolist()):
            check_new(seen, str(key), f"{where}: record {i}")


def _records_of_csv(raw: bytes, where: str, split_column: str) -> list[Record]:
    header, rows = read_table(raw, where)
    for name in ("label", split_column):
        if name and name not in header:
            raise DataError(f"{where}: no column '{name}' in {header[:20]}")
    named = {"label", "id", split_column}
    steps = [i for i, name in enumerate(header) if name not in named]
    seen: dict[str, str] = {}
    records = []
    for at, row in rows:
        cells = dict(zip(header, row, strict=True))
        if not cells["label"].strip():
            raise DataError(f"{at}: label is empty")
        if "id" in cells:
            check_new(seen, cells["id"], at)
        part = check_split(cells[split_column], at) if split_column else ""
        values = read_series([row[i] for i in steps], at)
        records.append(Record(at, cells["label"], part, values))
    return records


def _records_of_folder(root: Path) -> list[Record]:
    records = []
    for path, raw in sorted(read_files(root, limit=256 * MEBIBYTE)):
        part, label = place(path, root.name)
        if not path.endswith(_ENDINGS):
            raise DataError(f"{root.name}: '{path}' is neither .npz nor .csv")
        series = _one_npz(raw, path) if path.endswith(".npz") else read_rows(raw, path)
        records.append(Record(path, label, part, series))
    check_layout({record.split for record in records}, root.name)
    return records


def _one_npz(raw: bytes, where: str) -> NDArray[np.float32]:
    arrays = read_npz(raw, where, limit=_LIMIT)
    if list(arrays) != ["values"]:
        raise DataError(f"{where}: holds {sorted(arrays)[:20]}: must hold 'values' alone")
    values = arrays["values"]
    return cut(values, np.array([len(values) if values.ndim else 0], np.int64), where)[0]
