"""What the supervisor and its workers say to each other."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.control import (
    MAX_BYTES,
    MESSAGES,
    Answer,
    Culprit,
    Decoder,
    Figures,
    Go,
    Message,
    Start,
    Stop,
    encode,
)
from service.errors import ControlBroken

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
st.register_type_strategy(dict, st.dictionaries(st.text(), _JSON, max_size=4))
ANY_MESSAGE = st.one_of([st.from_type(kind) for kind in MESSAGES])


@given(st.lists(ANY_MESSAGE, max_size=5), st.data())
def test_messages_arrive_however_they_are_cut(messages: list[Message], data: st.DataObject) -> None:
    """A stream of bytes in pieces of any size gives what was sent, in order."""
    stream = b"".join(map(encode, messages))
    decoder, received = Decoder(), list[Message]()
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert received == messages


def framed(body: bytes) -> bytes:
    """Return a body with its length before it."""
    return struct.pack("!I", len(body)) + body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "unknown"),
        (b"[]", "unknown"),
        (b'["Halt",{}]', "unknown"),
        (b'["Go",{"at":1}]', "other members"),
        (b'["Closed",{"count":"1"}]', "expected .*int.*got '1'"),
        (b'["Closed",{"count":true}]', "expected .*int.*got True"),
        (b'["Board",{"ready":true,"versions":[{"model":"m"}]}]', "other members"),
        (b'["Board",{"ready":true,"versions":"m"}]', "expected .*tuple"),
    ],
)
def test_what_is_no_message(body: bytes, reason: str) -> None:
    """It is refused with what was seen, never half understood."""
    with pytest.raises(ControlBroken, match=reason):
        Decoder().feed(framed(body))


def test_a_length_that_cannot_be() -> None:
    """Nothing is collected for a message that is larger than any."""
    with pytest.raises(ControlBroken, match="4294967295"):
        Decoder().feed(b"\xff\xff\xff\xff")
    with pytest.raises(ControlBroken, match="Figures"):
        encode(Figures(0, {"text": "x" * (MAX_BYTES + 1)}))


def test_names_that_are_not_utf_8_survive() -> None:
    """A folder's name may hold any byte."""
    start = Start(1, 1, "http://h:1", {}, culprits=(Culprit("caf\udce9", 1, "ab", "it died"),))
    assert Decoder().feed(encode(start)) == [start]


def test_defaults_are_written_too() -> None:
    """Both sides are of one build, and a message that lacks a member is none."""
    _, body = json.loads(encode(Answer(3))[4:])
    assert body == {"id": 3, "code": "", "text": "", "content": {}}
    assert Decoder().feed(encode(Go()) + encode(Stop())) == [Go(), Stop()]
