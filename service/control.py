"""What the supervisor and its workers tell each other, and how it is written on their socket."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Final, get_args, get_origin, get_type_hints

from service.errors import ControlBroken

Json = dict[str, Any]

MAX_BYTES: Final = 64 << 20
_HEAD: Final = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Culprit:
    """A version that ended its worker too often; ``fingerprint`` tells its files from others."""

    model: str
    version: int
    fingerprint: str
    reason: str


@dataclass(frozen=True, slots=True)
class VersionState:
    """The state of one version in one worker, or in all of them."""

    model: str
    version: int
    state: str
    reason: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A model whose files came with the request to load it, and the folder that they are in."""

    model: str
    folder: str


# From the supervisor to a worker.


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: who the worker is and what it serves.

    ``loaded`` and ``unloaded`` are models that were loaded and unloaded by request since the
    server began, ``known`` the last states of all versions.  Below the folder ``uploads`` lies what
    comes with a request.
    """

    number: int
    threads: int
    address: str
    settings: Json
    loaded: tuple[str, ...] = ()
    unloaded: tuple[str, ...] = ()
    culprits: tuple[Culprit, ...] = ()
    known: tuple[VersionState, ...] = ()
    uploads: str = ""
    uploaded: tuple[Uploaded, ...] = ()


@dataclass(frozen=True, slots=True)
class Go:
    """Load the models and take connections."""


@dataclass(frozen=True, slots=True)
class Board:
    """What holds for all workers together: readiness, and the worst state of each version."""

    ready: bool
    versions: tuple[VersionState, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Send your figures now."""

    id: int


@dataclass(frozen=True, slots=True)
class Order:
    """Load or unload a model, or sync it: bring what is live of it in line with the disk.

    ``settling``, ``retry`` and ``quiet`` are said of a sync, see `service.reloader`; ``folder`` is
    where a load finds the model's files, "" for the repository.
    """

    id: int
    verb: str
    model: str
    settling: tuple[str, ...] = ()
    retry: bool = False
    quiet: bool = False
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request; ``code`` and ``text`` are those of an error, "" if there is none."""

    id: int
    code: str = ""
    text: str = ""
    content: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Condemn:
    """Serve this version no longer, and load it no more."""

    culprit: Culprit


@dataclass(frozen=True, slots=True)
class Ping:
    """Show that your loop turns."""

    id: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Answer what was accepted except what hangs, then end; another worker takes your place."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The server is about to end: be not ready, and let every connection's next answer say so."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Answer what was accepted, then end."""


# From a worker to the supervisor.


@dataclass(frozen=True, slots=True)
class Unable:
    """The worker cannot start as it is configured."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """The application stands; what the server should say at its start, for people or machines."""

    text: str
    fields: Json
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Up:
    """Connections are taken from now on."""


@dataclass(frozen=True, slots=True)
class States:
    """Where the worker's models are; ``settled`` once every first attempt to load has ended."""

    ready: bool
    settled: bool
    versions: tuple[VersionState, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """So many connections, the longest handed over first, are the worker's from now on."""

    count: int


@dataclass(frozen=True, slots=True)
class Closed:
    """So many connections have ended."""

    count: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The loop turns; ``id`` is that of the ping."""

    id: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """A run of this version was told to end and goes on."""

    model: str
    version: int


@dataclass(frozen=True, slots=True)
class Emptied:
    """All that was accepted is answered; what is left is to close the models."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The worker's counters and gauges; ``id`` is that of the question, 0 without one."""

    id: int
    content: Json


@dataclass(frozen=True, slots=True)
class Request:
    """Something only the supervisor can do: the verbs are figures, load and unload."""

    id: int
    verb: str
    model: str = ""
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Admit:
    """Have a version proved; what may be opened comes over the socket of the files.

    ``claim`` is the same for the same files and options; ``order`` is for the process that proves.
    """

    id: int
    model: str
    version: int
    claim: str
    order: Json


@dataclass(frozen=True, slots=True)
class Done:
    """An order has been carried out, or has failed with this code and text."""

    id: int
    code: str = ""
    text: str = ""


Message = (
    Start | Go | Board | Ask | Order | Answer | Condemn | Ping | Leave | Drain | Stop
    | Unable | Prepared | Up | States | Taken | Closed | Emptied | Pong | Stuck | Figures
    | Request | Admit | Done
)  # fmt: skip
MESSAGES: Final[tuple[type[Message], ...]] = get_args(Message)
_KINDS: Final = {kind.__name__: kind for kind in MESSAGES}


def encode(message: Message) -> bytes:
    """Return the message as it is sent: its length in 4 bytes, then JSON.

    Raises ControlBroken for one that is larger than a receiver takes.
    """
    body = json.dumps([type(message).__name__, asdict(message)], separators=(",", ":")).encode()
    if len(body) > MAX_BYTES:
        raise ControlBroken(f"control message {type(message).__name__}: {len(body)} bytes")
    return _HEAD.pack(len(body)) + body


class Decoder:
    """Cuts a stream of bytes, however it arrives, into messages."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete now; raises ControlBroken for what is none."""
        self._buffer += data
        messages: list[Message] = []
        start = 0
        while len(self._buffer) - start >= _HEAD.size:
            (length,) = _HEAD.unpack_from(self._buffer, start)
            if length > MAX_BYTES:
                raise ControlBroken(f"control message of {length} bytes")
            end = start + _HEAD.size + length
            if len(self._buffer) < end:
                break
            messages.append(_decode(bytes(self._buffer[start + _HEAD.size : end])))
            start = end
        del self._buffer[:start]
        return messages


def _decode(body: bytes) -> Message:
    try:
        name, members = json.loads(body)
        kind = _KINDS[name]
    except (ValueError, TypeError, KeyError) as error:
        raise ControlBroken(f"control message {body[:80]!r}: unknown") from error
    built = _build(kind, members, name)
    if not isinstance(built, MESSAGES):
        raise ControlBroken(f"control message {name}: not a message")
    return built


def _build(kind: Any, value: object, where: str) -> object:  # noqa: ANN401 - a type of any kind
    """Return the value as ``kind``: a plain type, a tuple of one type, or a dataclass."""
    if is_dataclass(kind):
        hints = _hints(kind if isinstance(kind, type) else type(kind))
        if not isinstance(value, dict) or set(value) != set(hints):
            raise ControlBroken(f"control message {where}: other members than {sorted(hints)}")
        members = {key: _build(hints[key], value[key], f"{where}.{key}") for key in hints}
        return kind(**members) if isinstance(kind, type) else None
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_build(get_args(kind)[0], one, where) for one in value)
    plain = get_origin(kind) or kind
    # In JSON and in Python a truth value would pass as a number.
    if type(value) is not plain:
        raise ControlBroken(f"control message {where}: expected {plain}, got {value!r:.80}")
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}


def versions_by_key(versions: Sequence[VersionState]) -> dict[tuple[str, int], VersionState]:
    """Return the states by model and version."""
    return {(one.model, one.version): one for one in versions}
