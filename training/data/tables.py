"""CSV files of numbers, read cell by cell, so that a wrong one can be named."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataError

Row = tuple[str, list[str]]


def read_table(raw: bytes, where: str) -> tuple[list[str], list[Row]]:
    """Return the header and the rows below it, each row with its place; blank lines are skipped.

    Raises DataError with the line for text that is not UTF-8, a row of another width than the
    header's, and a name that is in the header twice.
    """
    rows = _rows(raw, where)
    if not rows:
        raise DataError(f"{where}: line 1: a header is needed")
    header = [name.strip() for name in rows[0][1]]
    if len(set(header)) != len(header):
        raise DataError(f"{where}: line 1: a column is there twice in {header[:20]}")
    for at, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{at}: {len(row)} cells, the header has {len(header)}")
    return header, rows[1:]


def read_rows(raw: bytes, where: str) -> NDArray[np.float32]:
    """Return float32 [rows, columns] of a table of numbers, without the line of names above it."""
    rows = _rows(raw, where)
    if rows and not any(_is_number(cell) for cell in rows[0][1]):
        del rows[0]
    if not rows:
        raise DataError(f"{where}: no row of numbers")
    width = len(rows[0][1])
    for at, row in rows:
        if len(row) != width:
            raise DataError(f"{at}: {len(row)} cells, those before it have {width}")
    numbers = [[_number(cell, f"{at}, cell {i}") for i, cell in enumerate(r, 1)] for at, r in rows]
    return _single(numbers)


def read_series(cells: Sequence[str], where: str) -> NDArray[np.float32]:
    """Return float32 [time, 1] of a row of cells, of which only the last may be empty."""
    length = len(cells)
    while length and not cells[length - 1].strip():
        length -= 1
    if not length:
        raise DataError(f"{where}: a series without a value")
    numbers = [_number(cell, f"{where}, step {i}") for i, cell in enumerate(cells[:length])]
    return _single(numbers)[:, None]


def _rows(raw: bytes, where: str) -> list[Row]:
    try:
        # Spreadsheets write a byte order mark, which this codec drops.
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{where}: line {line}: not UTF-8: {error.reason}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return [(f"{where}: line {reader.line_num}", row) for row in reader if row]
    except csv.Error as error:
        raise DataError(f"{where}: line {reader.line_num}: {error}") from error


def _single(numbers: Sequence[object]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        # Beyond float32 becomes infinite here, which the checks of the data set refuse.
        return np.array(numbers, np.float64).astype(np.float32)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, where: str) -> float:
    # Python takes 1_000 for a number; other programs do not.
    if not _is_number(cell) or "_" in cell:
        raise DataError(f"{where}: {cell!r:.40} is not a number")
    number = float(cell)
    if not np.isfinite(number):
        raise DataError(f"{where}: {cell!r:.40}: must be finite")
    return number
