"""Calibrations kept between starts, whatever happens to the folder."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.calibration import Calibration
from service.calibration_cache import CalibrationCache, decode, encode, name_of
from tests.support.strategies import damaged

PRINT = {"model": "abc", "cores": 2, "limits": {"max_rows": 4}, "session": {}}
KNOWN = Calibration({1: 0.001, 2: 0.0015, 16: 0.01}, 2, "tick", 1, 64, "one row takes 1 ms")


class Bench:
    """Something to measure that counts how often it was."""

    def __init__(self, known: Calibration = KNOWN) -> None:
        """Begin at none."""
        self.known = known
        self.times = 0

    def measure(self) -> Calibration:
        """Count and answer."""
        self.times += 1
        return self.known


def file_of(folder: Path) -> Path:
    """Return the one file that is kept."""
    (file,) = folder.glob("**/*.json")
    return file


def test_what_is_known_is_not_measured_again(tmp_path: Path) -> None:
    """Another process with the same fingerprint reads it, and says so."""
    bench = Bench()
    first = CalibrationCache(tmp_path).get(PRINT, bench.measure)
    again = CalibrationCache(tmp_path).get(PRINT, bench.measure)
    assert (first, first.from_cache, again, again.from_cache) == (KNOWN, False, KNOWN, True)
    assert list(again.seconds) == [1, 2, 16]
    assert bench.times == 1
    assert not list(tmp_path.glob("**/.*"))


def test_whatever_changes_is_measured_again(tmp_path: Path) -> None:
    """Each part of the fingerprint counts, however deep."""
    bench, cache = Bench(), CalibrationCache(tmp_path)
    for changed in ({}, {"model": "abd"}, {"cores": 3}, {"limits": {"max_rows": 8}}):
        cache.get({**PRINT, **changed}, bench.measure)
    assert bench.times == 4


def test_a_damaged_or_foreign_file_is_written_anew(tmp_path: Path) -> None:
    """No file, however wrong, is more than a reason to measure."""
    bench, cache = Bench(), CalibrationCache(tmp_path)
    cache.get(PRINT, bench.measure)
    file = file_of(tmp_path)
    other = encode({**PRINT, "model": "other"}, KNOWN)
    for content in (b"", b"[]", b"{}", b"\xff" * 9, b"[" * 9000, other, b" " * (1 << 17)):
        file.write_bytes(content)
        assert not cache.get(PRINT, bench.measure).from_cache
        assert cache.get(PRINT, bench.measure).from_cache
    assert bench.times == 8


@given(st.data())
def test_no_damage_raises(data: st.DataObject) -> None:
    """What comes out of any bytes is nothing, or a calibration that hangs together."""
    found = decode(data.draw(damaged(encode(PRINT, KNOWN))), PRINT)
    if found is not None:
        assert found.cap in found.seconds
        assert found.tick_rows in {0, *found.seconds}


@pytest.mark.parametrize("change", [{"cap": 3}, {"tick_rows": 5}, {"run": "fast"}, {"seconds": {}}])
def test_a_calibration_that_contradicts_itself_is_no_calibration(change: dict[str, object]) -> None:
    """A cap that was never measured cannot have been chosen."""
    facts = {name: getattr(KNOWN, name) for name in KNOWN.__slots__ if name != "from_cache"}
    assert decode(encode(PRINT, Calibration(**facts)), PRINT) == KNOWN
    assert decode(encode(PRINT, Calibration(**{**facts, **change})), PRINT) is None


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    """None, a file in its place or a folder without rights is no error."""
    (tmp_path / "file").write_text("x")
    for folder in (None, tmp_path / "file", Path("/proc/none")):
        bench = Bench()
        assert [CalibrationCache(folder).get(PRINT, bench.measure) for _ in "ab"] == [KNOWN, KNOWN]
        assert bench.times == 2


def test_what_could_not_be_measured_is_asked_again(tmp_path: Path) -> None:
    """The next start may have more luck."""
    bench = Bench(Calibration({}, 8, "threads", 0, None, "nothing was measured"))
    for _ in range(2):
        assert not CalibrationCache(tmp_path).get(PRINT, bench.measure).from_cache
    assert bench.times == 2


def test_of_many_at_once_one_measures(tmp_path: Path) -> None:
    """The others wait and read what it found."""
    inside, go = threading.Event(), threading.Event()
    bench = Bench()

    def measure() -> Calibration:
        inside.set()
        assert go.wait(10)
        return bench.measure()

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(CalibrationCache(tmp_path).get, PRINT, measure) for _ in range(4)]
        assert inside.wait(10)
        go.set()
        found = [one.result(20) for one in asked]
    assert bench.times == 1
    assert sorted(one.from_cache for one in found) == [False, True, True, True]


def hold(folder: Path, inside: threading.Event, go: threading.Event) -> None:
    """Measure, in a process of its own, until told to go on."""

    def measure() -> Calibration:
        inside.set()
        go.wait(30)
        return KNOWN

    CalibrationCache(folder).get(PRINT, measure)


def test_patience_with_another_process_ends(tmp_path: Path) -> None:
    """Who waits too long measures for itself; who comes later reads what the other has found."""
    spawn = multiprocessing.get_context("spawn")
    inside, go = spawn.Event(), spawn.Event()
    other = spawn.Process(target=hold, args=(tmp_path, inside, go))
    other.start()
    try:
        assert inside.wait(30)
        bench = Bench()
        assert CalibrationCache(tmp_path, patience=0).get(PRINT, bench.measure) == KNOWN
        assert bench.times == 1
    finally:
        go.set()
        other.join(30)
    assert other.exitcode == 0
    assert CalibrationCache(tmp_path).get(PRINT, bench.measure).from_cache
    assert len(name_of(PRINT)) == 64
