"""Descriptors on their way from the supervisor to a worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from service.errors import ControlBroken
from service.handover import Handover, hand_over

Ends = tuple[socket.socket, Handover]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Return the sending end, and what receives at the other."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, Handover(theirs)


def memory(content: bytes) -> int:
    """Return a descriptor of some content."""
    descriptor = os.memfd_create("handed")
    os.write(descriptor, content)
    return descriptor


def sent(channel: socket.socket, number: int, content: bytes) -> None:
    """Send a descriptor, and close ours."""
    descriptor = memory(content)
    hand_over(channel, number, descriptor)
    os.close(descriptor)


def content_of(descriptor: int) -> bytes:
    """Return what a descriptor holds, and close it."""
    content = os.pread(descriptor, 100, 0)
    os.close(descriptor)
    return content


def test_everybody_gets_their_own(ends: Ends) -> None:
    """In whatever order they were sent and are asked for."""
    channel, handover = ends
    for number, content in ((1, b"one"), (2, b"two"), (1 << 60, b"large")):
        sent(channel, number, content)
    assert content_of(handover.collect(1 << 60)) == b"large"
    assert content_of(handover.collect(1)) == b"one"
    assert content_of(handover.collect(2)) == b"two"


def test_what_never_came_is_not_waited_for(ends: Ends) -> None:
    """Who asks knows that it was sent; if not, something is wrong, and nobody hangs."""
    channel, handover = ends
    with pytest.raises(ControlBroken, match="did not come"):
        handover.collect(1)
    channel.send(b"short")
    with pytest.raises(ControlBroken, match="without their descriptor"):
        handover.collect(1)
    channel.close()
    with pytest.raises(ControlBroken):
        handover.collect(1)


def test_a_number_that_is_used_twice(ends: Ends) -> None:
    """The later one counts, and the other does not stay open."""
    channel, handover = ends
    for content in (b"early", b"late"):
        sent(channel, 7, content)
    sent(channel, 8, b"next")
    assert content_of(handover.collect(8)) == b"next"
    assert content_of(handover.collect(7)) == b"late"
