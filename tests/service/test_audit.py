"""The audit log: chains that show edits, several processes, rotation, failures."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.__main__ import main
from service.audit import AuditLog
from service.audit_check import Check, check_files
from service.errors import AuditUnavailable


def written(path: Path, *, chains: int = 2, lines: int = 3) -> list[bytes]:
    """Write a log of several processes' chains, one after the other, and return its lines."""
    for chain in range(chains):
        log = AuditLog(path)
        for number in range(lines):
            log.write("admin", {"action": "load", "model": f"m{chain}-{number}"})
        log.close()
    return path.read_bytes().splitlines(keepends=True)


def checked(*files: list[bytes]) -> Check:
    """Check lines as if they were files, the oldest first."""
    return check_files((f"file{number}", lines) for number, lines in enumerate(files))


def records(lines: list[bytes]) -> list[dict[str, Any]]:
    """Return lines as objects."""
    return [json.loads(line) for line in lines]


def test_a_log_as_it_was_written_is_whole(tmp_path: Path) -> None:
    """Each chain begins, counts and ends; the file is its owner's only."""
    path = tmp_path / "audit.log"
    lines = written(path)
    assert [record["event"] for record in records(lines)] == [
        *["open", *["admin"] * 3, "close"] * 2
    ]
    check = checked(lines)
    assert (check.problems, check.lines, check.unclosed) == ([], 10, 0)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def log_lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return the lines of one log, which no test changes."""
    return written(tmp_path_factory.mktemp("audit") / "log")


@given(st.data())
def test_any_edit_of_a_line_shows(log_lines: list[bytes], data: st.DataObject) -> None:
    """A byte changed, a line removed, doubled or moved, except at the end of a chain."""
    lines = log_lines[:]
    where = data.draw(st.integers(0, len(lines) - 1))
    match data.draw(st.sampled_from(["change", "remove", "double", "swap"])):
        case "change":
            at = data.draw(st.integers(0, len(lines[where]) - 2))
            other = bytes([lines[where][at] ^ data.draw(st.integers(1, 127))])
            lines[where] = lines[where][:at] + other + lines[where][at + 1 :]
            # The last line is followed by nothing that could hold its hash.
            if where == len(lines) - 1:
                return
        case "remove":
            if where == len(lines) - 1:
                assert checked(lines[:-1]).unclosed == 1
                return
            del lines[where]
        case "double":
            lines.insert(where, lines[where])
        case "swap":
            other_place = data.draw(st.integers(0, len(lines) - 1).filter(lambda n: n != where))
            lines[where], lines[other_place] = lines[other_place], lines[where]
    assert checked(lines).problems


def test_a_chain_taken_out_whole_shows_by_the_next(tmp_path: Path) -> None:
    """The opening line of a chain holds the hash of the line before it."""
    lines = written(tmp_path / "log", chains=3)
    assert checked(lines[:5] + lines[10:]).problems
    assert checked(lines[5:]).problems


def test_a_hash_that_was_kept_elsewhere_proves_the_rest(tmp_path: Path) -> None:
    """Whoever cuts the end off, or reckons all anew, cannot make that line again."""
    lines = written(tmp_path / "log")
    head = next(iter(reversed(checked(lines).heads.values())))
    assert not check_files([("f", lines)], must_hold=[head]).problems
    shorter = lines[:5]
    assert not checked(shorter).problems
    assert check_files([("f", shorter)], must_hold=[head]).problems == [
        f"no line has the hash {head}"
    ]


def test_a_torn_line_shows_and_the_log_goes_on(tmp_path: Path) -> None:
    """A process that ended in the middle of a line does not spoil the next one's."""
    path = tmp_path / "log"
    lines = written(path, chains=1)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    assert [p.partition(": ")[2] for p in checked([*lines[:-1], lines[-1][:20]]).problems] == [
        "the line is cut off"
    ]
    log = AuditLog(path)
    log.write("admin", {})
    log.close()
    check = checked(path.read_bytes().splitlines(keepends=True))
    assert check.problems == ["file0:5: not a line of an audit log"]


def test_a_long_log_is_rotated_and_each_part_is_whole(tmp_path: Path) -> None:
    """A new part opens with the end of the one before, whose name has the time behind it."""
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    log = AuditLog(tmp_path / "log", max_bytes=600, clock=lambda: now)
    for number in range(12):
        log.write("admin", {"number_of_test": number})
    log.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[:3] == ["log", "log.20260102T030405", "log.20260102T030405-1"]
    order = [*names[1:], "log"]
    order.sort(key=lambda name: (name == "log", len(name), name))
    parts = [(tmp_path / name).read_bytes().splitlines(keepends=True) for name in order]
    assert not checked(*parts).problems
    for part in parts[1:]:
        alone = checked(part)
        assert (alone.problems, alone.continued) == ([], 1)
    assert checked(parts[0], *parts[2:]).problems
    assert checked(parts[0][:-1], *parts[1:]).problems
    told = [r["number_of_test"] for part in parts for r in records(part) if r["event"] == "admin"]
    assert told == list(range(12))


WRITER = """
import sys
from pathlib import Path
from service.audit import AuditLog
log = AuditLog(Path(sys.argv[1]), max_bytes=int(sys.argv[2]))
for number in range(200):
    log.write("prediction", {"filler": "x" * (number % 50)}, durable=False)
log.close()
"""


@pytest.mark.parametrize("max_bytes", [0, 20_000])
def test_several_processes_write_one_log(tmp_path: Path, max_bytes: int) -> None:
    """Their chains stand in one file, line by line, each whole, also while it is rotated."""
    path = tmp_path / "log"
    command = [sys.executable, "-c", WRITER, str(path), str(max_bytes)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    parts = sorted(tmp_path.iterdir(), key=lambda part: part.stat().st_mtime_ns)
    lines = [part.read_bytes().splitlines(keepends=True) for part in parts]
    for part in lines:
        assert not checked(part).problems
    events = [record["event"] for part in lines for record in records(part)]
    assert events.count("prediction") == 600
    assert events.count("close") == 3
    assert (len(parts) > 1) is bool(max_bytes)


def test_a_log_that_is_moved_away_is_begun_anew(tmp_path: Path) -> None:
    """Tools that rotate logs by their name find the next line in a new file."""
    path = tmp_path / "log"
    log = AuditLog(path)
    log.write("admin", {"n": 1})
    path.rename(tmp_path / "moved")
    log.write("admin", {"n": 2})
    log.close()
    parts = [(tmp_path / name).read_bytes().splitlines(keepends=True) for name in ("moved", "log")]
    assert not checked(*parts).problems
    assert [record.get("n") for record in records(parts[1])] == [None, 2, None]


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """Neither a folder that is not there nor a link to elsewhere is written to."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("none/log", "link"):
        with pytest.raises(AuditUnavailable, match="cannot be written"):
            AuditLog(tmp_path / name).write("admin", {})
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_an_error_and_the_log_goes_on() -> None:
    """A device that takes nothing is refused each time anew."""
    log = AuditLog(Path("/dev/full"))
    for _ in range(2):
        with pytest.raises(AuditUnavailable):
            log.write("admin", {}, durable=False)


@pytest.mark.parametrize("line", [b"[]\n", b"\n", b"null\n", b'{"chain": 1}\n', b"\xff\n", b"{\n"])
def test_other_lines_are_problems_with_their_place(line: bytes) -> None:
    """Whatever stands in a file, the check ends and names file and line."""
    assert checked([line]).problems == ["file0:1: not a line of an audit log"]


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_can_be_checked(lines: list[bytes]) -> None:
    """Nothing is raised."""
    assert checked(lines).lines == len(lines)


def test_the_verb_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0 with the heads for a whole log, 3 with the places for another one."""
    path = tmp_path / "audit.log"
    lines = written(path)
    with pytest.raises(SystemExit) as ended:
        main(["audit", "verify", str(path)])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "10 lines in 2 chains: whole" in text
    heads = [line.split()[-1] for line in text.splitlines() if line.startswith("head of ")]
    path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(SystemExit) as ended:
        main(["audit", "verify", str(path), "--head", heads[-1]])
    assert ended.value.code == 3
    assert "no line has the hash" in capsys.readouterr().out
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    with pytest.raises(SystemExit) as ended:
        main(["audit", "verify", str(path)])
    assert ended.value.code == 3
    assert f"{path}:3: " in capsys.readouterr().out
