"""Compressed bodies: undone within a bound, done where a caller asks."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest, TooLarge
from service.web.encoding import Unpacker, UnsupportedEncoding, chosen, coding_of, pack

LIMIT = 1 << 20


def raw_deflate(body: bytes) -> bytes:
    """Return a body as some clients understand deflate: without zlib's header."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
}


def unpack(coding: str, *parts: bytes, limit: int = LIMIT) -> bytes:
    """Return what the parts of a body become."""
    unpacker = Unpacker(coding, max_bytes=limit)
    pieces = [piece for part in parts for piece in unpacker.feed(part)]
    unpacker.finish()
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        (b"", None),
        (b"identity", None),
        (b"gzip", "gzip"),
        (b" GZip ", "gzip"),
        (b"x-gzip", "gzip"),
        (b"deflate", "deflate"),
        (b"identity, gzip", "gzip"),
    ],
)
def test_codings_that_are_understood(header: bytes | None, coding: str | None) -> None:
    """Names in any case, with the word for none passed over."""
    assert coding_of(header) == coding


@pytest.mark.parametrize("header", [b"br", b"zstd", b"gzip, deflate", b"gzip;q=1", b"\xff"])
def test_codings_that_are_not(header: bytes) -> None:
    """Everything else is refused with what was seen and what is understood."""
    with pytest.raises(UnsupportedEncoding, match="gzip, deflate or identity"):
        coding_of(header)


@given(
    st.sampled_from(sorted(PACKERS)), st.binary(max_size=2000), st.integers(1, 300), st.integers(1)
)
def test_any_body_cut_anywhere(name: str, seed: bytes, times: int, cut: int) -> None:
    """A body comes out as it went in, wherever the network cuts it."""
    coding, packed_by = PACKERS[name]
    packed = packed_by(seed * times)
    width = 1 + cut % len(packed)
    parts = [packed[i : i + width] for i in range(0, len(packed), width)]
    assert unpack(coding, *parts) == seed * times


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_a_bomb_is_stopped_at_the_limit(name: str) -> None:
    """Of what would be 16 MiB no more than the limit comes out, in steps that are small."""
    coding, packed_by = PACKERS[name]
    bomb = packed_by(bytes(16 << 20))
    sizes: list[int] = []
    with pytest.raises(TooLarge, match=str(LIMIT)):
        sizes.extend(map(len, Unpacker(coding, max_bytes=LIMIT).feed(bomb)))
    assert sum(sizes) <= LIMIT
    assert max(sizes) <= LIMIT // 4


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_exactly_the_limit_is_allowed(name: str) -> None:
    """The limit itself passes, one byte more does not."""
    coding, packed_by = PACKERS[name]
    assert len(unpack(coding, packed_by(bytes(1000)), limit=1000)) == 1000
    with pytest.raises(TooLarge):
        unpack(coding, packed_by(bytes(1001)), limit=1000)


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_damaged_bodies(name: str) -> None:
    """A cut, a flipped bit, something behind the end, and something else are all refused."""
    coding, packed_by = PACKERS[name]
    packed = packed_by(b"content" * 100)
    with pytest.raises(InvalidRequest, match="cut off"):
        unpack(coding, packed[:-1])
    with pytest.raises(InvalidRequest, match="body: "):
        unpack(coding, packed + b"\0")
    with pytest.raises(InvalidRequest, match=f"not {coding}"):
        unpack(coding, b'{"inputs": []}')
    if name != "raw":
        flipped = bytearray(packed)
        flipped[-1] ^= 1
        with pytest.raises(InvalidRequest, match=f"not {coding}"):
            unpack(coding, bytes(flipped))


def test_an_empty_body_stays_empty() -> None:
    """Nothing is nothing in any coding."""
    assert unpack("gzip", b"") == b""


def test_gzip_members_behind_each_other() -> None:
    """Members are one body, but a body of a great many tiny ones is refused."""
    assert unpack("gzip", gzip.compress(b"one ") + gzip.compress(b"two")) == b"one two"
    with pytest.raises(InvalidRequest, match="behind the gzip stream"):
        unpack("gzip", gzip.compress(b"") * 1001)


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        (b"", None),
        (b"gzip", "gzip"),
        (b"deflate", "deflate"),
        (b"gzip, deflate, br", "gzip"),
        (b"deflate, gzip", "deflate"),
        (b"gzip;q=0.5, deflate;q=0.8", "deflate"),
        (b"gzip ; q=0.8 , deflate;q=0.8", "gzip"),
        (b"gzip;q=0", None),
        (b"gzip;q=0, deflate", "deflate"),
        (b"br, *", None),
        (b"identity, gzip;q=0.5", None),
        (b"identity;q=0.1, gzip;q=0.5", "gzip"),
        (b"x-gzip", "gzip"),
        (b"GZIP;Q=1", "gzip"),
        (b"gzip;q=high", None),
        (b"gzip;q=2", None),
        (b"gzip;q=nan", None),
        (b"gzip;level=1", "gzip"),
        (b"\xff, gzip", "gzip"),
    ],
)
def test_what_a_caller_prefers(header: bytes | None, coding: str | None) -> None:
    """The heaviest coding wins, of equal ones the first; what is unknown is passed over."""
    assert chosen(header) == coding


@given(st.binary(max_size=500), st.integers(1, 500), st.sampled_from(["gzip", "deflate"]))
async def test_what_is_packed_can_be_unpacked(seed: bytes, times: int, coding: str) -> None:
    """Packing in steps gives one whole stream, with zlib's header for deflate."""
    packed = await pack(seed * times, coding)
    assert unpack(coding, packed) == seed * times
    assert zlib.decompress(packed, 31 if coding == "gzip" else 15) == seed * times
