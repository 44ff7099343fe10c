"""What is read from /proc."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks import proc
from benchmarks.proc import Process, family, parse_machine, parse_process, parse_pss

TICK = 1 / os.sysconf("SC_CLK_TCK")


def test_a_process_may_have_blanks_and_brackets_in_its_name() -> None:
    """The fields are counted from the last bracket; children's time is added to its own."""
    stat = "42 (a) b (c)) S 7 42 40 0 -1 4194560 1 2 3 4 100 20 30 4 20 0 1 0 99 1 2"
    assert parse_process(stat) == Process(42, 7, 40, 154 * TICK)


def test_the_machine_s_time_is_split_into_busy_idle_and_stolen() -> None:
    """Waiting for a disk is idle; a guest's time is not counted twice."""
    times = parse_machine("cpu  10 20 30 400 50 6 7 8 9 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n")
    assert times.busy == pytest.approx(73 * TICK)
    assert times.idle == pytest.approx(450 * TICK)
    assert times.stolen == pytest.approx(8 * TICK)


def test_memory_is_the_proportional_size_in_bytes() -> None:
    """And not one of its parts."""
    assert parse_pss("x [rollup]\nRss: 900 kB\nPss: 292 kB\nPss_Dirty: 112 kB\n") == 292 * 1024


def test_a_process_without_memory_has_none() -> None:
    """As a kernel thread."""
    assert parse_pss("") == 0


def test_a_family_is_the_root_its_descendants_and_its_session() -> None:
    """A grandchild counts, and a process whose parent has ended; neighbours do not."""
    root, child, grandchild = Process(5, 1, 5, 1), Process(6, 5, 5, 1), Process(7, 6, 7, 1)
    orphan, neighbour = Process(8, 1, 5, 1), Process(9, 1, 9, 1)
    everyone = [root, child, grandchild, orphan, neighbour]
    assert family(everyone, 5) == [root, child, grandchild, orphan]


def test_cpu_time_of_a_child_that_ended_stays_with_its_parent() -> None:
    """So that short-lived helpers of a server are not lost."""
    before = parent_cpu()
    code = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert parent_cpu() - before > 0.25


def test_a_running_process_has_memory() -> None:
    """This one does."""
    assert proc.resident_bytes(os.getpid()) > 1_000_000


def parent_cpu() -> float:
    """Return the CPU seconds of this process and its ended children."""
    (found,) = [each for each in proc.processes() if each.pid == os.getpid()]
    return found.cpu_seconds
