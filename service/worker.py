"""One worker: the application on an event loop, with connections that the supervisor hands over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

from service import logs
from service.admitted import Admitted
from service.allowance import limit_memory
from service.announcement import announcement, announcement_text
from service.app import control_of, create_app, first_models, open_warning
from service.blackbox import BlackBox
from service.children import die_with_parent, ignore_signals
from service.control import Closed, Drain, Go, Leave, Message, Prepared, Stop, Taken, Unable, Up
from service.device import DeviceHealth
from service.errors import ControlBroken, ServiceError
from service.guarded import Quarantine
from service.handover import Handover
from service.link import Link
from service.member import Member
from service.quota import Ledger
from service.repository import Found, named, scan
from service.settings import Settings
from service.tls import TlsFiles, server_context
from service.web.edge import Edge

_log = logging.getLogger("onnxport.worker")
_AT_ONCE: Final = 64
# How long callers of a worker that is replaced may ask once more before idle connections end.
_FAREWELL: Final = 1.0
_LAST_HANDSHAKES: Final = 2.0
# What the supervisor sees of a worker whose device is lost, as sysexits.h calls a failed system.
EXIT_DEVICE_LOST: Final = 71
_LAST_WORDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Tls:
    """What connections are wrapped in, the seconds that takes, and how many may begin at once."""

    context: ssl.SSLContext
    handshake_seconds: float
    handshakes: int
    shutdown_seconds: float = 2.0

    @property
    def arguments(self) -> dict[str, Any]:
        """What the event loop has to know of it."""
        return {
            "ssl": self.context,
            "ssl_handshake_timeout": self.handshake_seconds,
            "ssl_shutdown_timeout": self.shutdown_seconds,
        }


class Intake:
    """Takes the connections that come over a socket, and tells of those that have ended."""

    def __init__(
        self,
        source: socket.socket,
        make_protocol: Callable[[Callable[[], None]], asyncio.Protocol],
        tell: Callable[[Message], None],
        tls: Tls | None = None,
    ) -> None:
        """Keep the socket; ``make_protocol`` is given what to call when a connection has ended.

        With ``tls`` every connection begins with a handshake.
        """
        source.setblocking(False)  # noqa: FBT003 - the library's only spelling
        self._source = source
        self._make_protocol = make_protocol
        self._tell = tell
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._ended = 0

    def open(self) -> None:
        """Take connections from now on."""
        self._loop.add_reader(self._source, self._take, _AT_ONCE)

    async def close(self) -> None:
        """Take what has been sent so far and no more; return when all of it has begun."""
        self._loop.remove_reader(self._source)
        while self._take(_AT_ONCE):
            pass
        if self._beginning:
            # Who has not ended a handshake by then has sent no request that could be lost.
            await asyncio.wait(self._beginning, timeout=_LAST_HANDSHAKES)

    def _take(self, most: int) -> bool:
        """Take up to so many; whether there may be more.

        It is told before a byte of them is read: what was not told is given to another worker.
        """
        taken: list[socket.socket] = []
        more = self._receive(most, taken)
        if taken:
            self._tell(Taken(len(taken)))
        for connection in taken:
            self._begin(connection)
        return more

    def _receive(self, most: int, taken: list[socket.socket]) -> bool:
        for _ in range(most):
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self._source, 1, 1, socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return False
            if not data:
                self._loop.remove_reader(self._source)
                return False
            if not descriptors:
                # This process has no room for another descriptor.
                self._tell(Taken(1))
                self._end()
            taken += [socket.socket(fileno=descriptor) for descriptor in descriptors]
        return True

    def _begin(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003
        if self._tls is not None and len(self._beginning) >= self._tls.handshakes:
            connection.close()
            self._end()
            return
        task = asyncio.ensure_future(self._connect(connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._make_protocol(self._end),
                connection,
                **({} if self._tls is None else self._tls.arguments),
            )
        except OSError as error:
            # The caller has gone already, or does not speak TLS as is asked for here.
            _log.debug("a connection did not begin: %s", error)
            connection.close()
            self._end()

    def _end(self) -> None:
        """Count an ended connection, and tell of all that one turn of the loop has brought."""
        if not self._ended:
            self._loop.call_soon(self._tell_ended)
        self._ended += 1

    def _tell_ended(self) -> None:
        self._tell(Closed(self._ended))
        self._ended = 0


class WorkerServer(uvicorn.Server):
    """uvicorn's server over connections that are handed over; signals are the supervisor's."""

    def __init__(
        self,
        config: uvicorn.Config,
        edge: Edge,
        member: Member,
        source: socket.socket,
        tls: Tls | None = None,
        health: DeviceHealth | None = None,
    ) -> None:
        """Keep what it serves, where connections come from, and the device that it stands on."""
        super().__init__(config)
        self._edge = edge
        self._member = member
        self._source = source
        self._tls = tls
        self._intake: Intake | None = None
        self._may_go = asyncio.Event()
        self.leaving = False
        self._health = health or DeviceHealth()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def run_until_stopped(self) -> None:
        """Serve until the supervisor says Stop or is no more."""
        self._health.on_loss(self._end_without_device)
        listening = asyncio.create_task(self._listen())
        reporting_ = asyncio.create_task(self._member.report())
        try:
            await self._may_go.wait()
            await self.serve(sockets=[])
        finally:
            listening.cancel()
            reporting_.cancel()

    def _end_without_device(self, reason: str) -> None:
        """End soon, on whatever thread: the supervisor starts another process in this place."""
        del reason
        self.should_exit = True
        grace = float(self.config.timeout_graceful_shutdown or 0)
        # A call into the device may never come back, and would keep the process from its end.
        timer = threading.Timer(grace + _LAST_WORDS, os._exit, [EXIT_DEVICE_LOST])
        timer.daemon = True
        timer.start()

    async def _listen(self) -> None:
        await self._member.link.listen(self._hear)
        self.should_exit = True
        self._may_go.set()

    def _hear(self, message: Message) -> None:
        if isinstance(message, Go):
            self._may_go.set()
        elif isinstance(message, Stop):
            self.should_exit = True
        elif isinstance(message, Leave):
            self.leaving = True
            self._edge.drain()
            # Who asks meanwhile is told to go elsewhere, instead of being hung up on.
            asyncio.get_running_loop().call_later(_FAREWELL, self._leave)
        else:
            if isinstance(message, Drain):
                self._edge.drain()
            self._member.hear(message)

    def _leave(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the application, then take connections."""
        await super().startup(sockets)

        def make_protocol(on_end: Callable[[], None]) -> asyncio.Protocol:
            # As uvicorn makes its own.
            return self._edge.protocol(
                self.config, self.server_state, self.lifespan.state, on_end=on_end
            )

        self._intake = Intake(self._source, make_protocol, self._member.link.send, self._tls)
        self._intake.open()
        self._member.link.send(Up())
        self._member.tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what was handed over begin, then end as uvicorn does."""
        if self._intake is not None:
            await self._intake.close()
        await super().shutdown(sockets)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve; the arguments are descriptors: three sockets, the black box, the quotas."""
    ignore_signals()
    die_with_parent()
    control, connections, files, memory, quotas = map(int, arguments or sys.argv[1:])
    link = Link(socket.socket(fileno=control))
    source = socket.socket(fileno=connections)
    try:
        start = link.start()
    except (ControlBroken, OSError):
        # The supervisor ended while this process began.
        sys.exit(1)
    settings = Settings(**start.settings)
    logs.configure(level=settings.log_level, style=settings.log_format, worker=start.number)
    box = BlackBox(memory)
    box.record_faults()
    admitted = Admitted(link, Handover(socket.socket(fileno=files)))
    quarantine = Quarantine(box, start.culprits, prepare=admitted.prepare)
    member = Member(start, link, quarantine, Ledger(quotas, start.number))
    try:
        found = named(scan(settings.repository), settings.model_name)
        app = create_app(settings, found, member)
        tls = tls_of(settings)
    except ServiceError as error:
        link.say(Unable(error.code, str(error)))
        sys.exit(1)
    except OSError as error:
        # A folder that may not be read, a disk that fails.
        link.say(Unable("internal", str(error)))
        sys.exit(1)
    if settings.memory_limit != "auto":
        limit_memory(settings.memory_limit)
    link.say(_prepared(settings, found, member))
    serve_app(app, settings, member, source, tls)


def serve_app(
    app: Any,  # noqa: ANN401 - FastAPI is imported by `service.app` alone
    settings: Settings,
    member: Member,
    source: socket.socket,
    tls: Tls | None = None,
) -> None:
    """Serve until the supervisor says Stop; a lost device ends the process with its own code."""
    config = server_config(app, settings)
    health: DeviceHealth = app.state.health

    async def serve() -> bool:
        server = WorkerServer(config, app.state.edge, member, source, tls, health)
        await server.run_until_stopped()
        return server.leaving

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        leaving = runner.run(serve())
    # Not the usual way: what a driver does at the end of a process needs the device, and a run that
    # goes on must not find the libraries that it needs taken apart.
    if health.reason or leaving:
        logging.shutdown()
        os._exit(EXIT_DEVICE_LOST if health.reason else 0)


def server_config(app: Callable[..., Any], settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves the application."""
    return uvicorn.Config(
        app,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        root_path=settings.root_path,
        server_header=False,
        timeout_keep_alive=max(1, round(settings.keep_alive)),
        timeout_graceful_shutdown=max(1, round(settings.grace)),
    )


def tls_of(settings: Settings) -> Tls | None:
    """Return what connections are wrapped in, None for plain HTTP; raises ConfigurationError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    return Tls(server_context(files), settings.head_timeout, settings.max_connections)


def _prepared(settings: Settings, found: Sequence[Found], member: Member) -> Prepared:
    """Return what the supervisor says at the start, if this worker is the first to be prepared."""
    address = member.start.address
    warnings = (open_warning(settings), _name_warning(settings, found))
    said = tuple(warning for warning in warnings if warning)
    first = first_models(found, control_of(settings), member)
    if not logs.is_text(settings.log_format, sys.stderr):
        return Prepared("", announcement(settings, first, address), said)
    colours = sys.stderr.isatty()
    return Prepared(announcement_text(settings, first, address, colours=colours), {}, said)


def _name_warning(settings: Settings, found: Sequence[Found]) -> str:
    """Say that a name is given to no model, since it cannot be given to several; "" if it is."""
    name = settings.model_name
    if not name or not found or any(one.name == name for one in found):
        return ""
    return f"no model is called {name}: several keep their names"


if __name__ == "__main__":
    main()
