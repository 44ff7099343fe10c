"""What every road needs of one exchange: the body, the deadline, the model, and the way back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.errors import InvalidRequest
from service.inference import OnDone, Prediction
from service.planning import IndexRow
from service.predictor import Answered
from service.registry import ModelView
from service.statistics import History
from service.tensors import Tensors
from service.uploads import Upload
from service.web.auditor import Auditor
from service.web.encoding import Unpacker, coding_of

# Keys of the ASGI scope; the guard reads them when it writes the access log.
MODEL = "onnxport.model"
VERSION = "onnxport.version"
ROAD = "onnxport.road"
PROBE = "onnxport.probe"
ERROR_CODE = "onnxport.error"
TIMINGS = "onnxport.timings"
CALLER = "onnxport.caller"

MAX_DECOMPRESSED_BYTES = 64 << 20
# Above, bodies are decoded, and answers encoded, beside the event loop.
OFF_LOOP_BYTES = 1 << 20

_MAX_VERSION_DIGITS = 18
T = TypeVar("T")


class ClientGone(Exception):
    """The caller hung up before the answer was there; nobody is left to answer."""


@dataclass(frozen=True, slots=True)
class WebOptions:
    """Limits and habits of the HTTP side; ``deadline`` is in seconds, a route may be ""."""

    max_body_bytes: int = 64 << 20
    max_decompressed_bytes: int = MAX_DECOMPRESSED_BYTES
    max_json_depth: int = 32
    deadline: float = 30.0
    root_path: str = ""
    default_model: str = ""
    health_route: str = ""
    predict_route: str = ""


class Models(Protocol):
    """What the roads need of the registry."""

    def views(self) -> tuple[ModelView, ...]:
        """Return all versions, sorted by name and version."""
        ...

    def view(self, name: str, version: int | None = None) -> ModelView:
        """Return one version; raises ModelNotFound."""
        ...

    def version_of_label(self, name: str, label: str) -> int:
        """Return the version that a label stands for; raises ModelNotFound."""
        ...

    @property
    def leaving(self) -> bool:
        """Whether the server is about to end."""
        ...

    def ready(self) -> bool:
        """Whether the server as a whole should be sent traffic."""
        ...


class Repository(Protocol):
    """What the roads need of the reloader."""

    async def index(self) -> list[IndexRow]:
        """Return everything in memory and on disk."""
        ...

    async def load(self, name: str, upload: Upload | None = None) -> None:
        """Load a model, or load it again, from files that came along if some did."""
        ...

    async def unload(self, name: str) -> None:
        """Take a model out of service."""
        ...


class Figures(Protocol):
    """What the roads need of metrics and statistics."""

    async def page(self) -> bytes:
        """Return all instruments in Prometheus' text format."""
        ...

    async def history(self) -> History:
        """Return what each version has done."""
        ...


class UnderWay(Protocol):
    """A call that has been begun."""

    def cancel(self) -> None:
        """End it without an answer; a call that has ended stays as it is."""
        ...


class Answers(Protocol):
    """What the roads need of the predictor."""

    def start(
        self,
        name: str,
        version: int | None,
        inputs: Tensors,
        *,
        wanted: Sequence[str] | None,
        deadline: float,
        on_done: OnDone,
    ) -> UnderWay:
        """Begin to run the graph on its own tensors; ``on_done`` hears the outcome, once."""
        ...

    async def infer(
        self,
        name: str,
        version: int | None,
        inputs: Tensors,
        *,
        wanted: Sequence[str] | None,
        deadline: float,
    ) -> Prediction:
        """Run the graph on its own tensors."""
        ...

    async def predict(
        self, name: str, version: int | None, instances: Sequence[object], *, deadline: float
    ) -> Answered:
        """Answer JSON instances."""
        ...

    async def predict_raw(
        self, name: str, version: int | None, raw: bytes, media_type: str, *, deadline: float
    ) -> Answered:
        """Answer one raw input."""
        ...


@dataclass(frozen=True, slots=True)
class WebParts:
    """What the roads lead to."""

    models: Models
    answers: Answers
    options: WebOptions
    repository: Repository
    figures: Figures
    auditor: Auditor = field(default_factory=Auditor)


def headers_of(scope: Scope) -> Mapping[bytes, bytes]:
    """Return the request's headers, names in lower case as ASGI promises; the last one wins."""
    return dict(scope["headers"])


def path_of(scope: Scope) -> str:
    """Return the path below the one that a proxy has cut off, as routing sees it."""
    path, cut = str(scope["path"]), str(scope.get("root_path", ""))
    if cut and (path == cut or path.startswith(f"{cut}/")):
        return path[len(cut) :]
    return path


def port_of(scope: Scope) -> int | None:
    """Return the port of ours that a request came in by, None for a socket without one."""
    server = scope.get("server")
    return server[1] if server else None


def media_type_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the Content-Type with its parameters in lower case, "" if there is none."""
    return headers.get(b"content-type", b"").decode("latin-1").strip().lower()


def model_of(scope: Scope) -> tuple[str, int | None]:
    """Return the name and version in the path."""
    params = scope["path_params"]
    version = params.get("version")
    return params["name"], None if version is None else parse_version(version)


def parse_version(text: str) -> int:
    """Return a version of the path; other text than digits is no path of ours."""
    if not (text.isascii() and text.isdecimal()):
        raise HTTPException(404)
    if len(text) > _MAX_VERSION_DIGITS:
        raise InvalidRequest(f"version {text[:32]}: must be below 10^{_MAX_VERSION_DIGITS}")
    return int(text)


async def read_body(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    *,
    max_decompressed: int,
) -> bytes:
    """Return the whole body, unpacked where it is compressed.

    Raises UnsupportedEncoding for a coding that is not undone, TooLarge for a body that unpacks
    to more than ``max_decompressed`` bytes, as soon as it does.
    """
    coding = coding_of(headers.get(b"content-encoding"))
    if coding is None and (length := _announced(headers)) > OFF_LOOP_BYTES:
        return await _read_long(receive, length)
    unpacker = Unpacker(coding, max_bytes=max_decompressed) if coding else None
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part, more = message.get("body", b""), message.get("more_body", False)
        if unpacker is None:
            parts.append(part)
            continue
        for piece in unpacker.feed(part):
            parts.append(piece)
            # A few packed bytes may become many; others get their turn between the steps.
            await asyncio.sleep(0)
    if unpacker is not None:
        unpacker.finish()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _announced(headers: Mapping[bytes, bytes]) -> int:
    """Return the length that a body is to have, 0 where it is not said."""
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() else 0


async def _read_long(receive: Receive, length: int) -> bytes:
    """Return a whole body of a known length.

    Its parts are put in their place as they come: kept and joined they would take twice the
    memory, in pieces that do not go back to the system.
    """
    whole, at, more = bytearray(length), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part, more = message.get("body", b""), message.get("more_body", False)
        whole[at : at + len(part)] = part
        at += len(part)
    return bytes(whole)


def deadline_of(
    headers: Mapping[bytes, bytes], started: float, *, default: float, timeout: float | None = None
) -> float:
    """Return the monotonic time at which the smallest of all stated timeouts has passed."""
    seconds = [default]
    if timeout is not None:
        seconds.append(timeout)
    header = headers.get(b"x-request-timeout-ms")
    if header is not None:
        text = header.decode("latin-1").strip()
        if not (text.isascii() and text.isdecimal() and len(text) <= 15) or int(text) == 0:
            raise InvalidRequest(
                f"X-Request-Timeout-Ms: expected whole milliseconds above 0, got {text[:40]!r}"
            )
        seconds.append(int(text) / 1000)
    return started + min(seconds)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; if the caller hangs up first, cancel it: ClientGone.

    The body must have been read: what else can arrive is the news that the caller has gone.
    """
    current = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        if current is not None:
            current.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not gone or current is None:
            raise
        current.uncancel()
        raise ClientGone from None
    finally:
        watcher.cancel()


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a value as JSON; numpy values are written as they are, NaN as null."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, dict(headers or {}), "application/json")


async def send_json(
    send: Send,
    body: bytes,
    *,
    media_type: bytes = b"application/json",
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Send a finished JSON document as a 200, without a response object on the fast road."""
    head = [(b"content-type", media_type), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


def now() -> float:
    """Return the clock that deadlines are measured with."""
    return time.monotonic()
