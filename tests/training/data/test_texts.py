"""Users' texts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import DataError, DataSet, DataSpec, load
from training.data.texts import MAX_LINE, read_jsonl

from .fixtures import refusal, write_folder, write_zip


def lines(*rows: object) -> bytes:
    """Return rows as JSON Lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


ROWS = [{"label": "no" if i % 3 else "yes", "text": f"text {i}", "id": i} for i in range(30)]


def read(root: Path, **options: object) -> DataSet:
    """Load texts from there."""
    return load(DataSpec(root=str(root), format="texts", **options))  # type: ignore[arg-type]


def test_one_file_is_split_by_the_seed(tmp_path: Path) -> None:
    """Of each class a fifth is held back; packed and unpacked file are one data set."""
    (tmp_path / "a.jsonl").write_bytes(lines(*ROWS))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(*ROWS)))
    dataset = read(tmp_path / "a.jsonl")
    assert (dataset.name, dataset.kind, dataset.classes) == ("a.jsonl", "text", ("no", "yes"))
    assert (len(dataset.train), len(dataset.test)) == (24, 6)
    assert read(tmp_path / "a.jsonl.gz", name="b").fingerprint == dataset.fingerprint
    assert read(tmp_path / "a.jsonl", seed=1).fingerprint != dataset.fingerprint


def test_a_column_splits(tmp_path: Path) -> None:
    """Where a column is named, it decides."""
    rows = [row | {"part": "test" if i < 3 else "train"} for i, row in enumerate(ROWS)]
    (tmp_path / "a.jsonl").write_bytes(lines(*rows))
    dataset = read(tmp_path / "a.jsonl", split_column="part")
    assert dataset.test.inputs == ("text 0", "text 1", "text 2")
    assert [dataset.classes[label] for label in dataset.test.labels] == ["yes", "no", "no"]


def test_two_files_are_the_splits(tmp_path: Path) -> None:
    """Train and test file, in a folder or an archive, need no column."""
    files = {"train.jsonl": lines(*ROWS[3:]), "test.jsonl.gz": gzip.compress(lines(*ROWS[:3]))}
    dataset = read(write_folder(tmp_path / "a", files))
    assert dataset.test.inputs == ("text 0", "text 1", "text 2")
    assert read(write_zip(tmp_path / "a.zip", files)).fingerprint == dataset.fingerprint


def test_given_classes_decide_the_order(tmp_path: Path) -> None:
    """The index of a class is its place in the recipe; a label outside is refused by line."""
    (tmp_path / "a.jsonl").write_bytes(lines(*ROWS))
    assert read(tmp_path / "a.jsonl", classes=("yes", "no")).classes == ("yes", "no")
    with pytest.raises(DataError, match=r"a.jsonl: line 1: label 'yes' is not among the given"):
        read(tmp_path / "a.jsonl", classes=("no", "maybe"))


def test_numbers_as_labels_keep_their_order(tmp_path: Path) -> None:
    """10 comes after 9, and before texts."""
    rows = [{"label": n, "text": f"{n} {i}"} for n in (10, 9, "x") for i in range(2)]
    (tmp_path / "a.jsonl").write_bytes(lines(*rows))
    assert read(tmp_path / "a.jsonl").classes == ("9", "10", "x")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"label": "a", "text": "caf\xe9"}', "line 1: not UTF-8: .* at byte 27"),
        (lines(ROWS[0]) + b"\n" + lines(ROWS[1]), "line 2: not JSON"),
        (b"", "line 1: not JSON"),
        (b"\xef\xbb\xbf" + lines(ROWS[0]), "line 1: not JSON: .*BOM"),
        (b"[" * 100000, "line 1: not JSON"),
        (b'{"label": ' + b"9" * 5000 + b"}", "line 1: not JSON"),
        (
            b'{"label": "a", "text": "' + b"x" * MAX_LINE + b'"}',
            "line 1: 4194330 bytes, at most 4194304 are allowed",
        ),
        (b"[1]", "line 1: a list: must be an object"),
        (lines({"text": "x"}), "line 1: label None"),
        (lines({"label": True, "text": "x"}), "line 1: label True"),
        (lines({"label": " ", "text": "x"}), "line 1: label ' '"),
        (lines({"label": 1.5, "text": "x"}), "line 1: label 1.5"),
        (lines({"label": "a"}), "line 1: text None"),
        (lines({"label": "a", "text": "\n"}), r"line 1: text '\\n'"),
        (lines({"label": "a", "text": "x\ud800"}), "line 1: half a character at place 1"),
        (lines(ROWS[0], ROWS[1], ROWS[0]), "line 3: id '0' is also at x: line 1"),
    ],
)
def test_wrong_lines_are_refused(raw: bytes, text: str) -> None:
    """What is wrong in a line is said with its number."""
    with pytest.raises(DataError, match=f"^x: {text}"):
        read_jsonl(raw, "x")


def test_split_column_must_say_train_or_test() -> None:
    """A missing or another value is refused."""
    with pytest.raises(DataError, match="line 1: split None: must be 'train' or 'test'"):
        read_jsonl(lines(ROWS[0]), "x", split_column="part")
    with pytest.raises(DataError, match="line 1: split 'dev'"):
        read_jsonl(lines(ROWS[0] | {"part": "dev"}), "x", split_column="part")


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"train.jsonl": lines(*ROWS)}, r"has \['train'\], must have train.jsonl and"),
        ({"dev.jsonl": lines(*ROWS)}, "'dev.jsonl' is not the one train.jsonl or test.jsonl"),
        ({"train.jsonl": lines(*ROWS), "train.jsonl.gz": b""}, "'train.jsonl.gz' is not the one"),
        (
            {"train.jsonl": lines(*ROWS), "test.jsonl": lines({"label": "b", "text": "x"})},
            r"test.jsonl: line 1: label 'b' is not among the training classes \['no', 'yes'\]",
        ),
        ({"train.jsonl": lines(*ROWS), "test.jsonl.gz": b"junk"}, "test.jsonl.gz: truncated or"),
    ],
)
def test_wrong_folders_are_refused(tmp_path: Path, files: dict[str, bytes], text: str) -> None:
    """Both files must be there, once, and test what was trained."""
    with pytest.raises(DataError, match=text):
        read(write_folder(tmp_path, files))


def test_one_class_is_refused(tmp_path: Path) -> None:
    """A single class is no task."""
    (tmp_path / "a.jsonl").write_bytes(lines(*(row | {"label": "a"} for row in ROWS)))
    with pytest.raises(DataError, match="at least two are needed"):
        read(tmp_path / "a.jsonl")


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutations_raise_nothing_but_data_error(changes: list[tuple[float, int]]) -> None:
    """Random bytes in a file are read or refused."""
    raw = bytearray(lines(*ROWS[:3]))
    for place, value in changes:
        raw[int(place * (len(raw) - 1))] = value
    refused = refusal(lambda: read_jsonl(bytes(raw), "x", split="train"))
    assert refused is None or refused.startswith("x: line ")
