"""Users' series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import DataError, DataSet, DataSpec, load
from training.data.series import records_of_npz
from training.data.tables import read_rows, read_table

from .fixtures import npz, refusal, write_folder, write_tar

LENGTHS = [2, 3, 1, 4, 2, 2]
VALUES = np.arange(14 * 2, dtype=np.float32).reshape(14, 2)
NONE = np.zeros(0, np.int64)
WHOLE = {"values": VALUES, "lengths": LENGTHS, "labels": [0, 1, 0, 1, 0, 1]}


def read(root: Path, **options: object) -> DataSet:
    """Load series from there."""
    return load(DataSpec(root=str(root), format="series", **options))  # type: ignore[arg-type]


def of_npz(path: Path, **arrays: object) -> DataSet:
    """Load series from an npz file with these arrays."""
    (path / "a.npz").write_bytes(npz(**(WHOLE | arrays)))
    return read(path / "a.npz")


def lengths(dataset: DataSet, part: str = "train") -> list[int]:
    """Return the lengths of a split's series."""
    return [len(one) for one in getattr(dataset, part).inputs]


def test_one_npz_is_split_by_the_seed(tmp_path: Path) -> None:
    """Series keep their lengths and channels."""
    dataset = of_npz(tmp_path)
    assert (dataset.kind, dataset.classes) == ("sequence", ("0", "1"))
    assert sorted(lengths(dataset) + lengths(dataset, "test")) == sorted(LENGTHS)
    assert all(np.asarray(one).shape[1] == 2 for one in dataset.train.inputs)


def test_one_npz_may_carry_its_split(tmp_path: Path) -> None:
    """A column of names or the number of first series splits alike."""
    by_count = of_npz(tmp_path, n_train=4)
    by_name = of_npz(tmp_path, split=["train"] * 4 + ["test"] * 2)
    assert lengths(by_count) == lengths(by_name) == [2, 3, 1, 4]
    assert by_count.fingerprint == by_name.fingerprint


def test_ids_that_differ_change_nothing(tmp_path: Path) -> None:
    """They are looked at, not kept."""
    named = of_npz(tmp_path, ids=[f"series {i}" for i in range(6)])
    assert named.fingerprint == of_npz(tmp_path).fingerprint


def test_labels_may_be_texts_or_point_into_classes(tmp_path: Path) -> None:
    """Names come from the labels themselves or from the classes."""
    texts = of_npz(tmp_path, labels=["up", "down"] * 3)
    pointing = of_npz(tmp_path, classes=["up", "down"])
    assert texts.classes == pointing.classes == ("down", "up")
    assert texts.fingerprint == pointing.fingerprint


def test_many_numbered_classes_keep_their_order(tmp_path: Path) -> None:
    """Class 10 comes after class 9."""
    count = 22
    dataset = of_npz(
        tmp_path,
        values=np.zeros((count, 1)),
        lengths=[1] * count,
        labels=[i % 11 for i in range(count)],
    )
    assert dataset.classes == tuple(map(str, range(11)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"lengths": [[2]]}, r"'lengths' has shape \[1, 1\]: must be \[n\]"),
        ({"labels": [0, 1]}, r"'labels' has shape \[2\]: must be \[6\]"),
        ({"labels": [0.0, 1, 0, 1, 0, 1]}, "'labels': values of type float64"),
        ({"classes": ["a"]}, "label 1 at record 1: must be 0..0"),
        ({"classes": ["a", "b"], "labels": [0, 1, 0, 1, 0, -1]}, "label -1 at record 5"),
        ({"split": ["train"] * 5 + ["dev"]}, "record 5: split 'dev'"),
        ({"n_train": 6}, "n_train 6: must be 1..5"),
        ({"n_train": [2, 3]}, r"n_train \[2 3\]"),
        ({"ids": [1, 2, 3, 4, 5, 1]}, "record 5: id '1' is also at a.npz: record 0"),
        ({"values": VALUES * np.nan}, "nan at step 0, channel 0: must be finite"),
        ({"values": VALUES.astype(float) * 1e39}, "inf at step 0, channel 1: must be finite"),
        ({"values": VALUES[:0], "lengths": NONE, "labels": NONE}, "no class has two"),
        ({"lengths": []}, "'lengths': values of type float64: must be whole numbers"),
    ],
)
def test_wrong_npz_is_refused(tmp_path: Path, change: dict[str, object], text: str) -> None:
    """Shapes, labels, splits, ids and values are checked by record."""
    with pytest.raises(DataError, match=text):
        of_npz(tmp_path, **change)


def test_missing_arrays_are_named() -> None:
    """The text says what is missing and what is there."""
    with pytest.raises(DataError, match=r"a.npz: lengths, labels missing, has \['values'\]"):
        records_of_npz(npz(values=VALUES), "a.npz")


TABLE = """label,id,part,t1,t2,t3
up,a,train,1,2,3
down,b,train,3,2,
up,c,test,1.5,-2e1,
down,d,test,7,,
"""


def of_csv(path: Path, text: str, **options: object) -> DataSet:
    """Load series from a CSV file."""
    (path / "a.csv").write_bytes(text.encode())
    return read(path / "a.csv", **options)


def test_rows_of_a_csv_are_series(tmp_path: Path) -> None:
    """Empty cells at the end shorten a series; the column splits."""
    dataset = of_csv(tmp_path, "\ufeff" + TABLE, split_column="part")
    assert dataset.classes == ("down", "up")
    assert lengths(dataset) == [3, 2]
    np.testing.assert_array_equal(np.asarray(dataset.test.inputs[0]), [[1.5], [-20]])


def test_a_csv_needs_labels_and_steps_alone(tmp_path: Path) -> None:
    """Without ids, and split by the seed."""
    dataset = of_csv(tmp_path, "label,t1\nup,1\ndown,2\nup,3\ndown,4\n")
    assert (lengths(dataset), lengths(dataset, "test")) == ([1, 1], [1, 1])


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (TABLE, "", "line 1: a header is needed"),
        ("label,", "class,", "no column 'label'"),
        ("part", "other", "no column 'part'"),
        ("t2", "t1", "line 1: a column is there twice"),
        ("3,2,", "3,2", "line 3: 5 cells, the header has 6"),
        ("3,2,", "3,,2", "line 3, step 1: '' is not a number"),
        ("3,2,", "3,x,", "line 3, step 1: 'x' is not a number"),
        ("3,2,", "3,1_0,", "line 3, step 1: '1_0' is not a number"),
        ("3,2,", "3,nan,", "line 3, step 1: 'nan': must be finite"),
        ("3,2,", "3,-inf,", "line 3, step 1: '-inf': must be finite"),
        ("3,2,", ",,", "line 3: a series without a value"),
        ("down,b", ",b", "line 3: label is empty"),
        ("down,b", "down,a", "line 3: id 'a' is also at a.csv: line 2"),
        ("b,train", "b,dev", "line 3: split 'dev'"),
        ("down,d", "side,d", "line 5: label 'side' is not among the training classes"),
        ("3,2,", '3,"2,', "line 5: "),
    ],
)
def test_wrong_csv_is_refused(tmp_path: Path, old: str, new: str, text: str) -> None:
    """The line and the step that are wrong are named."""
    with pytest.raises(DataError, match=f"a.csv: {text}"):
        of_csv(tmp_path, TABLE.replace(old, new), split_column="part")


def test_csv_that_is_not_utf8_is_refused_by_line() -> None:
    """The line of the first wrong byte is named."""
    with pytest.raises(DataError, match="x: line 2: not UTF-8"):
        read_table(b"label,t1\ncaf\xe9,1\n", "x")


FOLDER = {
    "up/1.csv": b"x,y\n1,2\n3,4\n5,6\n",
    "up/2.csv": b"1,2\n",
    "down/1.npz": npz(values=VALUES[:4]),
    "down/2.npz": npz(values=VALUES[:5]),
}


def test_folders_are_classes(tmp_path: Path) -> None:
    """One file is one series, in a folder or an archive, in any order."""
    dataset = read(write_folder(tmp_path / "a", FOLDER))
    assert dataset.classes == ("down", "up")
    assert sorted(lengths(dataset) + lengths(dataset, "test")) == [1, 3, 4, 5]
    backwards = dict(reversed(FOLDER.items()))
    assert read(write_tar(tmp_path / "a.tar", backwards)).fingerprint == dataset.fingerprint


def test_folders_may_be_splits(tmp_path: Path) -> None:
    """Train and test folders split."""
    files = {f"{part}/{name}": raw for name, raw in FOLDER.items() for part in ("train", "test")}
    assert lengths(read(write_folder(tmp_path, files)), "test") == [4, 5, 3, 1]


@pytest.mark.parametrize(
    ("name", "raw", "text"),
    [
        ("up/3.txt", b"", "'up/3.txt' is neither .npz nor .csv"),
        ("3.csv", b"1,2", "'3.csv' must be in a folder CLASS"),
        ("train/3.csv", b"1,2", "'train/3.csv' must be in a folder CLASS"),
        ("a/b/3.csv", b"1,2", "'a/b/3.csv' must be in a folder CLASS"),
        ("train/up/3.csv", b"1,2", "no split, train: give train and test, or class folders only"),
        ("up/3.csv", b"", "up/3.csv: no row of numbers"),
        ("up/3.csv", b"x,y\n", "up/3.csv: no row of numbers"),
        ("up/3.csv", b"1,2\n3\n", "up/3.csv: line 2: 1 cells, those before it have 2"),
        ("up/3.csv", b"1,2\n3,z\n", "up/3.csv: line 2, cell 2: 'z' is not a number"),
        ("up/3.csv", b"1,2,3\n", "3 channels"),
        ("up/3.npz", npz(values=VALUES, x=1), r"holds \['values', 'x'\]: must hold 'values' alone"),
        ("up/3.npz", npz(values=1.0), "must be floats"),
        ("up/3.npz", b"PK", "up/3.npz: damaged npz"),
    ],
)
def test_wrong_folders_are_refused(tmp_path: Path, name: str, raw: bytes, text: str) -> None:
    """Files in the wrong place, of another kind or damaged are named."""
    with pytest.raises(DataError, match=text):
        read(write_folder(tmp_path, FOLDER | {name: raw}), test_fraction=0.3)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """Nothing is no data."""
    with pytest.raises(DataError, match="no files"):
        read(tmp_path)


@given(st.binary(max_size=60))
def test_any_bytes_raise_nothing_but_data_error(raw: bytes) -> None:
    """What is no table is refused."""
    for read_one in (read_rows, read_table):
        refused = refusal(lambda: read_one(raw, "x"))  # noqa: B023 - called at once
        assert refused is None or refused.startswith("x: ")
