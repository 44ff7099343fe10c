"""Servers for clients under test: a scripted one without a socket, and real ones on a free port."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import uvicorn
from starlette.types import ASGIApp

Step = httpx.Response | Exception


@dataclass(frozen=True, slots=True)
class RawBody(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes as it is, also where it is not what its headers say."""

    content: bytes

    def __iter__(self) -> Iterator[bytes]:
        """Yield all of it."""
        yield self.content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield all of it."""
        yield self.content


@dataclass(slots=True)
class ScriptedServer:
    """Answers one step of its script a request, the last one for ever, and keeps the requests.

    A step that is an exception is raised, as a transport does whose connection failed.
    """

    script: Sequence[Step]
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer as httpx.MockTransport wants it."""
        step = self.script[min(len(self.requests), len(self.script) - 1)]
        self.requests.append(request)
        if isinstance(step, Exception):
            raise step
        # A response can be read once, and the last step may be asked for again.
        assert isinstance(step.stream, httpx.SyncByteStream)
        body = RawBody(b"".join(step.stream))
        return httpx.Response(step.status_code, headers=step.headers, stream=body)


@contextmanager
def running(app: ASGIApp) -> Iterator[str]:
    """Run an application on a free port of this machine in a thread and yield its address."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, ws="none", access_log=False, log_config=None
    )
    listener = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()


@dataclass(slots=True)
class Wire:
    """A server of bare sockets: its address, and how many connections it was given."""

    address: str
    connections: list[object]


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Wire]:
    """Let ``answer`` write the whole answer to every request, on a free port, and yield where."""
    connections: list[object] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.append(self.client_address)
            super().setup()

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Wire(f"http://127.0.0.1:{server.server_address[1]}", connections)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=30)
