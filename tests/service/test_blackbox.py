"""The memory in which a worker leaves what it was doing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from service.blackbox import (
    RUNNING,
    SLOTS,
    BlackBox,
    Mark,
    label_of,
    make_memory,
    read_marks,
    read_trace,
)
from service.children import environment

LABEL = label_of("m", 3, "ab")


@pytest.fixture
def memory() -> Iterator[int]:
    """Return the memory of one worker."""
    descriptor = make_memory()
    yield descriptor
    os.close(descriptor)


def test_marks_last_as_long_as_the_work(memory: int) -> None:
    """A load and a run in it, one after the other, and nothing at the end."""
    box = BlackBox(memory)
    with box.loading(LABEL):
        (mark,) = read_marks(memory)
        assert mark == Mark("m", 3, "ab", loading=True, thread=threading.get_ident())
    assert read_marks(memory) == []
    slot = box.begin(RUNNING, label_of("a/b", 1, ""))
    assert [(mark.model, mark.loading) for mark in read_marks(memory)] == [("a/b", False)]
    box.end(slot)
    assert read_marks(memory) == []


def test_a_short_label_after_a_long_one(memory: int) -> None:
    """Nothing of the old one shows."""
    box = BlackBox(memory)
    box.end(box.begin(RUNNING, label_of("long" * 30, 1, "ab")))
    box.begin(RUNNING, LABEL)
    assert [mark.model for mark in read_marks(memory)] == ["m"]


@pytest.mark.parametrize("name", ["caf\u00e9", "caf\udce9", "x" * 2000])
def test_any_name(memory: int, name: str) -> None:
    """Whatever a folder may be called; what is too long is cut."""
    BlackBox(memory).begin(RUNNING, label_of(name, 1, "ab"))
    (mark,) = read_marks(memory)
    assert name.startswith(mark.model)
    assert len(mark.model) == min(len(name), len(mark.model))


def test_each_thread_has_a_slot_and_the_last_ones_share(memory: int) -> None:
    """However many threads there are, none writes outside."""
    box = BlackBox(memory)
    threads = [threading.Thread(target=box.begin, args=(RUNNING, LABEL)) for _ in range(SLOTS + 3)]
    for thread in threads:
        thread.start()
        thread.join()
    assert len(read_marks(memory)) == SLOTS


def test_what_a_dead_process_leaves(memory: int) -> None:
    """Its marks, and which of its threads a fatal signal has hit."""
    program = (
        "import sys, os, signal, threading; from service.blackbox import *\n"
        "box = BlackBox(int(sys.argv[1])); box.record_faults()\n"
        "box.begin(LOADING, label_of('good', 1, 'ab'))\n"
        "def bad():\n"
        "    box.begin(RUNNING, label_of('bad', 2, 'cd'))\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGFPE)\n"
        "threading.Thread(target=bad).start()\n"
        "threading.Event().wait()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(memory)],
        pass_fds=[memory],
        env=environment(),
        check=False,
    )
    assert ended.returncode < 0
    threads = {mark.model: mark.thread for mark in read_marks(memory)}
    assert set(threads) == {"good", "bad"}
    assert f"Current thread 0x{threads['bad']:016x}".encode() in read_trace(memory)
