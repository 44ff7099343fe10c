"""One worker: the application on an event loop, with connections that the supervisor hands over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import uvicorn

from service import logs
from service.admitted import Admitted
from service.announcement import announcement, announcement_text
from service.app import control_of, create_app, first_models, open_warning
from service.blackbox import BlackBox
from service.children import die_with_parent, ignore_signals
from service.control import Closed, Go, Message, Prepared, Stop, Taken, Unable, Up
from service.errors import ControlBroken, ServiceError
from service.guarded import Quarantine
from service.handover import Handover
from service.link import Link
from service.member import Member
from service.repository import Found, named, scan
from service.settings import Settings
from service.web.edge import Edge

_log = logging.getLogger("onnxport.worker")
_AT_ONCE: Final = 64


class Intake:
    """Takes the connections that come over a socket, and tells of those that have ended."""

    def __init__(
        self,
        source: socket.socket,
        make_protocol: Callable[[Callable[[], None]], asyncio.Protocol],
        tell: Callable[[Message], None],
    ) -> None:
        """Keep the socket; ``make_protocol`` is given what to call when a connection has ended."""
        source.setblocking(False)  # noqa: FBT003 - the library's only spelling
        self._source = source
        self._make_protocol = make_protocol
        self._tell = tell
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
            await asyncio.wait(self._beginning)

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
        task = asyncio.ensure_future(self._connect(connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._make_protocol(self._end), connection
            )
        except OSError:
            # The caller has gone already.
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
        self, config: uvicorn.Config, edge: Edge, member: Member, source: socket.socket
    ) -> None:
        """Keep what it serves and where connections come from."""
        super().__init__(config)
        self._edge = edge
        self._member = member
        self._source = source
        self._intake: Intake | None = None
        self._may_go = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def run_until_stopped(self) -> None:
        """Serve until the supervisor says Stop or is no more."""
        listening = asyncio.create_task(self._listen())
        reporting_ = asyncio.create_task(self._member.report())
        try:
            await self._may_go.wait()
            await self.serve(sockets=[])
        finally:
            listening.cancel()
            reporting_.cancel()

    async def _listen(self) -> None:
        await self._member.link.listen(self._hear)
        self.should_exit = True
        self._may_go.set()

    def _hear(self, message: Message) -> None:
        if isinstance(message, Go):
            self._may_go.set()
        elif isinstance(message, Stop):
            self.should_exit = True
        else:
            self._member.hear(message)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the application, then take connections."""
        await super().startup(sockets)

        def make_protocol(on_end: Callable[[], None]) -> asyncio.Protocol:
            # As uvicorn makes its own.
            return self._edge.protocol(
                self.config, self.server_state, self.lifespan.state, on_end=on_end
            )

        self._intake = Intake(self._source, make_protocol, self._member.link.send)
        self._intake.open()
        self._member.link.send(Up())
        self._member.tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what was handed over begin, then end as uvicorn does."""
        if self._intake is not None:
            await self._intake.close()
        await super().shutdown(sockets)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve; the arguments are descriptors: of the control socket, the two others, the box."""
    ignore_signals()
    die_with_parent()
    control, connections, files, memory = map(int, arguments or sys.argv[1:])
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
    member = Member(start, link, Quarantine(box, start.culprits, prepare=admitted.prepare))
    try:
        found = named(scan(settings.repository), settings.model_name)
        app = create_app(settings, found, member)
    except ServiceError as error:
        link.say(Unable(error.code, str(error)))
        sys.exit(1)
    except OSError as error:
        # A folder that may not be read, a disk that fails.
        link.say(Unable("internal", str(error)))
        sys.exit(1)
    config = server_config(app, settings)
    link.say(_prepared(settings, found, member))

    async def serve() -> None:
        await WorkerServer(config, app.state.edge, member, source).run_until_stopped()

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())


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
