"""The parent of the workers: it listens, keeps them alive, and ends them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from service import logs, quota
from service.care import Care
from service.children import Child, command_of, environment, exit_words, spawn_worker
from service.control import (
    Closed,
    Decoder,
    Drain,
    Emptied,
    Go,
    Message,
    Pong,
    Prepared,
    Stop,
    Stuck,
    Taken,
    Unable,
    Up,
)
from service.desk import Desk
from service.errors import ControlBroken
from service.fleet import restart_plan
from service.gate import Gate
from service.handout import Handout
from service.listener import address_of
from service.logs import printable
from service.poller import Poller
from service.seat import Seat
from service.supervisor_options import Options

_log = logging.getLogger("onnxport.supervisor")
# What a worker may take beyond the grace time, to close its models and to end.
_CLOSING: Final = 2.0
_READ_BYTES: Final = 1 << 16
_CONFIGURATION: Final = "configuration"


class CannotStart(Exception):
    """A worker has found that the server cannot work as it is configured."""

    def __init__(self, refusal: Unable) -> None:
        """Keep the worker's words."""
        super().__init__(refusal.text)
        self.exit_code = 2 if refusal.code == _CONFIGURATION else 1


class Supervisor:
    """All workers of one server."""

    def __init__(self, options: Options, listeners: Sequence[socket.socket]) -> None:
        """Keep the listening sockets, the main one first; nothing is started before `run`."""
        self._options = options
        self._address, *self._others = (
            address_of(listener, secure=options.secure) for listener in listeners
        )
        self._seats = {number: Seat(number) for number in range(1, options.workers + 1)}
        self._handout = Handout(listeners, self._seats)
        self._gate = Gate(options.admission, at_once=options.admissions)
        self._desk = Desk(self._seats, self._gate)
        self._quotas = quota.make_memory(options.workers)
        self._care = Care(
            self._seats,
            self._desk,
            deaths=options.quarantine_deaths,
            hang_timeout=options.hang_timeout,
            grace=options.grace,
        )
        poll = options.poll
        self._poller: Poller | None = None
        if poll is not None:
            folder = Path(poll.repository)
            self._poller = Poller(folder, self._desk.sync, interval=poll.interval, whole=poll.whole)
        if self._poller is not None:
            poller = self._poller
            self._desk.repository_ok = lambda: poller.readable
        self._announced = False
        self._asked_to_end = asyncio.Event()
        self._somebody_up = asyncio.Event()
        self._ending = False
        self._stopped = False
        self._patient = False

    async def run(self) -> None:
        """Serve until the end is asked for; raises CannotStart if a worker never could."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)
        keeping = [asyncio.create_task(self._keep(seat)) for seat in self._seats.values()]
        self._gate.warm_up(self._options.prestarted)
        asked = asyncio.create_task(self._asked_to_end.wait())
        beside = [
            asyncio.create_task(work) for work in (self._poll(), self._mirror(), self._care.watch())
        ]
        try:
            await asyncio.wait([asked, *keeping], return_when=asyncio.FIRST_COMPLETED)
            for task in beside:
                task.cancel()
            await self._end(keeping)
        finally:
            for task in beside:
                task.cancel()
            self._kill()
            asked.cancel()
            self._desk.close()
            self._handout.abandon()
        for ended in await asyncio.gather(*keeping, return_exceptions=True):
            if ended is not None:
                raise ended

    async def _poll(self) -> None:
        """Follow the disk once there is a worker to be told."""
        if self._poller is not None:
            await self._somebody_up.wait()
            await self._poller.run()

    async def _mirror(self) -> None:
        """Have a process follow a repository somewhere else; one that ends is started again."""
        mirror, options = self._options.mirror, self._options
        while mirror is not None:
            process = await asyncio.create_subprocess_exec(
                *command_of("service.mirror", mirror.url, mirror.folder, mirror.interval),
                options.log_level,
                options.log_format,
                env=environment(),
                stdin=asyncio.subprocess.PIPE,
            )
            try:
                await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
            _log.error("the process that follows %s has ended", mirror.url)
            await asyncio.sleep(mirror.interval)

    def _signalled(self, number: int) -> None:
        if self._asked_to_end.is_set():
            # Asked twice: whoever waits has no more patience.
            self._kill()
            os._exit(128 + number)
        _log.info("asked to end by %s", signal.Signals(number).name)
        # Who presses Ctrl-C has no balancer that must first hear of it.
        self._patient = number == signal.SIGTERM
        self._asked_to_end.set()

    async def _end(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        """Say it, accept no more, let the workers answer what they have, kill who is too slow."""
        self._ending = True
        self._asked_to_end.set()
        await self._drain(keeping)
        self._stopped = True
        self._handout.close()
        self._gate.close()
        for seat in self._seats.values():
            if seat.up:
                seat.send(Stop())
            elif seat.child is not None:
                seat.child.process.kill()
        _, late = await asyncio.wait(keeping, timeout=self._options.grace + _CLOSING)
        if late:
            _log.error("%d workers did not end within the grace time and are killed", len(late))
            self._kill()
            await asyncio.wait(late)

    async def _drain(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        """Be not ready for a while, so that balancers send their callers elsewhere first."""
        living = [seat for seat in self._seats.values() if seat.up]
        for seat in living:
            seat.send(Drain())
        if living and self._patient and self._options.drain_delay:
            await asyncio.wait(keeping, timeout=self._options.drain_delay)

    def _kill(self) -> None:
        self._gate.close()
        for seat in self._seats.values():
            if seat.child is not None:
                seat.child.process.kill()

    async def _keep(self, seat: Seat) -> None:
        """Have a worker in this place until the end."""
        while not self._ending:
            await self._work(seat)
            if self._ending:
                return
            seat.deaths.append(time.monotonic())
            del seat.deaths[:-16]
            wait = restart_plan(seat.deaths, seat.deaths[-1])
            self._desk.restarts += 1
            _log.warning("worker %d is started again in %.1f s", seat.number, wait)
            try:
                await asyncio.wait_for(self._asked_to_end.wait(), wait)
            except TimeoutError:
                continue
            return

    async def _work(self, seat: Seat) -> None:
        """Start a process, hear it to its end, and draw the conclusions."""
        child = spawn_worker(self._quotas)
        reader, writer = await asyncio.open_unix_connection(sock=child.control)
        seat.begin(child, writer)
        options = self._options
        seat.send(
            self._desk.start_of(
                seat, threads=options.threads, address=self._address, settings=options.settings
            )
        )
        try:
            await self._listen(seat, reader)
        except ControlBroken as error:
            _log.error("worker %d: %s", seat.number, error)
            child.process.kill()
        finally:
            seat.up = False
            self._handout.update()
            writer.close()
            await self._ended(seat, child)

    async def _listen(self, seat: Seat, reader: asyncio.StreamReader) -> None:
        decoder = Decoder()
        while True:
            try:
                data = await reader.read(_READ_BYTES)
            except ConnectionError:
                return
            if not data:
                return
            for message in decoder.feed(data):
                self._hear(seat, message)

    def _hear(self, seat: Seat, message: Message) -> None:
        if isinstance(message, Pong):
            self._care.alive(seat)
            return
        if isinstance(message, Closed):
            seat.open -= message.count
            return
        if isinstance(message, Emptied):
            self._hurry(seat)
            return
        if isinstance(message, Taken):
            self._handout.taken(seat, message.count)
            return
        if isinstance(message, Prepared):
            self._announce(message)
            seat.send(Go())
        elif isinstance(message, Up):
            self._is_up(seat)
        elif isinstance(message, Stuck):
            self._care.stuck(seat, message)
        elif isinstance(message, Unable):
            self._is_unable(seat, message)
        else:
            self._desk.hear(seat, message)
        self._handout.update()

    def _is_up(self, seat: Seat) -> None:
        seat.up = True
        pid = seat.child.process.pid if seat.child else 0
        _log.info("worker %d takes connections", seat.number, extra={"fields": {"pid": pid}})
        self._desk.greet(seat)
        self._somebody_up.set()
        if self._poller is not None:
            # What has changed while it started is new to this one only.
            self._poller.look_anew()
        if self._ending:
            seat.send(Stop() if self._stopped else Drain())

    def _is_unable(self, seat: Seat, message: Unable) -> None:
        if not self._announced:
            self._ending = True
            raise CannotStart(message)
        _log.error("worker %d cannot start: %s", seat.number, printable(message.text))

    def _hurry(self, seat: Seat) -> None:
        """Give a worker that answers nobody any more a moment to end: a load may take for ever."""
        if seat.child is not None:
            asyncio.get_running_loop().call_later(_CLOSING, seat.child.process.kill)

    def _announce(self, prepared: Prepared) -> None:
        """Say once what the first worker has found."""
        if self._announced:
            return
        self._announced = True
        for notice in self._options.notices:
            _log.info(notice)
        for warning in prepared.warnings:
            _log.warning(warning)
        if prepared.text:
            sys.stderr.write(prepared.text)
            sys.stderr.flush()
        else:
            _log.info("listening", extra={"fields": prepared.fields})
        for address in self._others:
            _log.info("listening for admin", extra={"fields": {"address": address}})

    async def _ended(self, seat: Seat, child: Child) -> None:
        """Reap the process, keep what it had counted, and blame what ended it."""
        code = await _reap(child)
        if not self._ending:
            level = logging.INFO if seat.leaving and not code else logging.ERROR
            _log.log(level, "worker %d ended %s", seat.number, exit_words(code))
        if code < 0 and not self._ending:
            self._care.blame(child.box, -code)
        self._desk.lost(seat)
        quota.forget_worker(self._quotas, seat.number)
        seat.leave()
        self._handout.lost(seat)
        if not self._announced and not self._ending:
            self._ending = True
            raise CannotStart(Unable("internal", f"a worker ended {exit_words(code)} at its start"))
        self._desk.post()


async def _reap(child: Child) -> int:
    """Return the exit code of a process that has closed its socket, so that it is about to end."""
    until = time.monotonic() + 1.0
    while (code := child.process.poll()) is None:
        if time.monotonic() > until:
            child.process.kill()
        await asyncio.sleep(0.01)
    return code


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a server; the arguments are descriptors: of the options and of listening sockets."""
    options_file, *listener_files = map(int, arguments or sys.argv[1:])
    with os.fdopen(options_file, "rb") as file:
        options = Options.from_json(file.read())
    listeners = [socket.socket(fileno=file) for file in listener_files]
    for listener in listeners:
        listener.setblocking(False)  # noqa: FBT003 - the library's only spelling
        os.set_inheritable(listener.fileno(), False)  # noqa: FBT003
    logs.configure(level=options.log_level, style=options.log_format)

    async def serve() -> None:
        await Supervisor(options, listeners).run()

    try:
        asyncio.run(serve())
    except CannotStart as error:
        sys.stderr.write(f"onnxport: {printable(str(error))}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
