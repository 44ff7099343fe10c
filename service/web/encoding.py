"""Content-Encoding: gzip and deflate, undone within a bound, and done where a caller asks."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

from service.errors import InvalidRequest, TooLarge, UnsupportedMediaType

ACCEPTED = "gzip, deflate"
# Below this an answer fits one packet, and packing it only costs time.
MIN_PACKED_BYTES = 1024

# At most this much is unpacked, or packed, before the event loop gets its turn: about 1 ms.
_STEP = 1 << 17
_PACK_STEP = 1 << 15
# Some tools write several gzip members behind each other; each costs the same, however short.
_MAX_MEMBERS = 1000
_ALIASES = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_GZIP, _ZLIB, _RAW = 31, 15, -15
# For numbers, higher levels cost several times as much and gain a few percent.
_LEVEL = 1


class UnsupportedEncoding(UnsupportedMediaType):
    """The body is compressed in a way that is not undone here; the answer says what is."""


def coding_of(header: bytes | None) -> str | None:
    """Return "gzip", "deflate" or None for a body as it is; raises UnsupportedEncoding."""
    if header is None:
        return None
    text = header.decode("latin-1").strip().lower()
    names = [name for part in text.split(",") if (name := part.strip()) not in ("", "identity")]
    if not names:
        return None
    if len(names) > 1 or names[0] not in _ALIASES:
        raise UnsupportedEncoding(
            f"Content-Encoding {text[:40]!r}: one of {ACCEPTED} or identity is understood"
        )
    return _ALIASES[names[0]]


class Unpacker:
    """Undoes the coding of one body piece by piece, and never holds more than its limit."""

    def __init__(self, coding: str, *, max_bytes: int) -> None:
        """Keep what the body says of itself, and how many bytes it may become."""
        self._coding = coding
        self._max_bytes = max_bytes
        self._stream: zlib._Decompress | None = None
        self._members = 0
        self._unpacked = 0

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """Yield what the next bytes become, a step at a time.

        Raises TooLarge beyond the limit, InvalidRequest where the bytes are damaged.
        """
        view = memoryview(packed)
        # In slices, because zlib copies what it has not come to after every step.
        for start in range(0, len(view), _STEP):
            yield from self._unpack(bytes(view[start : start + _STEP]))

    def finish(self) -> None:
        """Raise InvalidRequest if the body ended before its stream did."""
        if self._stream is not None and not self._stream.eof:
            raise InvalidRequest(f"body: the {self._coding} stream is cut off")

    def _unpack(self, packed: bytes) -> Iterator[bytes]:
        while packed:
            stream = self._open(packed)
            piece = self._step(stream, packed)
            while piece:
                yield piece
                # A full step may leave output behind, even where no input is left.
                piece = self._step(stream, stream.unconsumed_tail) if not stream.eof else b""
            packed = stream.unused_data if stream.eof else b""

    def _open(self, packed: bytes) -> zlib._Decompress:
        """Return the stream that the bytes belong to: the current one, or the first or next."""
        if self._stream is None or self._stream.eof:
            self._members += 1
            if self._members > (_MAX_MEMBERS if self._coding == "gzip" else 1):
                raise InvalidRequest(f"body: {len(packed)} bytes behind the {self._coding} stream")
            self._stream = zlib.decompressobj(self._window(packed[0]))
        return self._stream

    def _window(self, first: int) -> int:
        if self._coding == "gzip":
            return _GZIP
        # Some clients send deflate without zlib's header; its first byte tells them apart, since
        # no packer begins a raw stream with these bits.
        return _ZLIB if first & 0x0F == zlib.DEFLATED else _RAW

    def _step(self, stream: zlib._Decompress, packed: bytes) -> bytes:
        try:
            piece = stream.decompress(packed, _STEP)
        except zlib.error as error:
            raise InvalidRequest(f"body: not {self._coding}: {error}") from error
        self._unpacked += len(piece)
        if self._unpacked > self._max_bytes:
            raise TooLarge(f"body: unpacks to more than the {self._max_bytes} bytes allowed")
        return piece


def chosen(accept: bytes | None) -> str | None:
    """Return the coding that Accept-Encoding prefers: the heaviest, of equal ones the first.

    None stands for the answer as it is.  Unknown codings and ``*`` are passed over.
    """
    if accept is None:
        return None
    best, heaviest = None, 0.0
    for part in accept.decode("latin-1").lower().split(","):
        name, _, rest = part.partition(";")
        coding = _ALIASES.get(name.strip(), name.strip())
        weight = _weight(rest)
        if coding in ("gzip", "deflate", "identity") and weight > heaviest:
            best, heaviest = coding, weight
    return None if best == "identity" else best


def _weight(text: str) -> float:
    """Return the q value of one coding, 1 where there is none and 0 where it is no number."""
    name, _, value = text.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0


async def pack(body: bytes, coding: str) -> bytes:
    """Return a body in a coding; the event loop gets its turn between the steps."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP if coding == "gzip" else _ZLIB)
    view = memoryview(body)
    pieces = []
    for start in range(0, len(view), _PACK_STEP):
        if start:
            await asyncio.sleep(0)
        pieces.append(stream.compress(view[start : start + _PACK_STEP]))
    pieces.append(stream.flush())
    return b"".join(pieces)
