"""What a worker is doing right now, in memory that outlives it: one slot a thread.

A worker writes which version a thread loads or runs; the supervisor reads it when the worker has
died.  The memory begins with room for what the interpreter says about a fatal signal.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final

TRACE_BYTES: Final = 1 << 18
SLOTS: Final = 1024
SLOT_BYTES: Final = 512
BYTES: Final = TRACE_BYTES + SLOTS * SLOT_BYTES
IDLE, LOADING, RUNNING = range(3)
# What is done, by which thread, and the length of the label behind it.
_HEAD: Final = struct.Struct("=B7xQ")
_LENGTH: Final = struct.Struct("=H")
_LABEL: Final = _HEAD.size
_SEPARATOR: Final = "/"


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing that a thread was doing: loading or running a version of a model."""

    model: str
    version: int
    fingerprint: str
    loading: bool
    thread: int = 0


def label_of(model: str, version: int, fingerprint: str) -> bytes:
    """Return a version as it stands in a slot, with its length before it."""
    text = _SEPARATOR.join((fingerprint, str(version), model)).encode("utf-8", "surrogateescape")
    text = text[: SLOT_BYTES - _LABEL - _LENGTH.size]
    return _LENGTH.pack(len(text)) + text


def make_memory() -> int:
    """Return a file descriptor of new memory without a name on disk, for one worker."""
    descriptor = os.memfd_create("onnxport-worker")
    os.ftruncate(descriptor, BYTES)
    return descriptor


def read_marks(descriptor: int) -> list[Mark]:
    """Return what the threads of the worker were doing when it last wrote."""
    slots = os.pread(descriptor, SLOTS * SLOT_BYTES, TRACE_BYTES)
    marks = (_mark(slots[at : at + SLOT_BYTES]) for at in range(0, len(slots), SLOT_BYTES))
    return [mark for mark in marks if mark is not None]


def read_trace(descriptor: int) -> bytes:
    """Return what the interpreter said of a fatal signal, b"" if there was none."""
    return os.pread(descriptor, TRACE_BYTES, 0).rstrip(b"\0")


def _mark(slot: bytes) -> Mark | None:
    doing, thread = _HEAD.unpack_from(slot)
    if doing == IDLE:
        return None
    (length,) = _LENGTH.unpack_from(slot, _LABEL)
    start = _LABEL + _LENGTH.size
    text = slot[start : start + length].decode("utf-8", "surrogateescape")
    fingerprint, version, model = text.split(_SEPARATOR, 2)
    return Mark(model, int(version), fingerprint, doing == LOADING, thread)


class BlackBox:
    """The worker's side: threads write what they do, at the price of two stores a run."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory."""
        self._memory = mmap.mmap(descriptor, BYTES)
        self._descriptor = descriptor
        self._free = count()
        self._own = threading.local()

    def record_faults(self) -> None:
        """Have the interpreter write which thread a fatal signal has hit."""
        faulthandler.enable(self._descriptor, all_threads=True)

    @contextmanager
    def loading(self, label: bytes) -> Iterator[None]:
        """Show that this thread loads a version."""
        slot = self.begin(LOADING, label)
        try:
            yield
        finally:
            self.end(slot)

    def begin(self, doing: int, label: bytes) -> int:
        """Show what this thread does from now on; returns what `end` wants to know."""
        slot = self._slot()
        memory = self._memory
        memory[slot + _LABEL : slot + _LABEL + len(label)] = label
        # Last, so that a slot that is read is complete.
        memory[slot] = doing
        return slot

    def end(self, slot: int) -> None:
        """Show that it does nothing."""
        self._memory[slot] = IDLE

    def _slot(self) -> int:
        try:
            return int(self._own.slot)
        except AttributeError:
            # Threads beyond the last slot share it: they are many, and a wrong mark is rare.
            slot = TRACE_BYTES + SLOT_BYTES * min(next(self._free), SLOTS - 1)
            _HEAD.pack_into(self._memory, slot, IDLE, threading.get_ident())
            self._own.slot = slot
            return slot
