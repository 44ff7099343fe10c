"""The worker's end of the control plane: messages out, messages in, answers to its requests."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, Final

from service.control import Admit, Answer, Decoder, Json, Message, Request, Start, encode
from service.errors import ControlBroken, ModelNotReady, Reported

_log = logging.getLogger("onnxport.worker")
_READ_BYTES: Final = 1 << 16
_GONE: Final = "the server is shutting down"

Hear = Callable[[Message], None]


class Link:
    """The socket to the supervisor: blocking until `open`, on the event loop afterwards."""

    def __init__(self, control: socket.socket) -> None:
        """Keep the inherited socket."""
        self._socket = control
        self._decoder = Decoder()
        self._early: list[Message] = []
        self._writer: asyncio.StreamWriter | None = None
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.gone = False

    def start(self) -> Start:
        """Wait for the first message; raises ControlBroken if another or none comes."""
        while not self._early:
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise ControlBroken("the supervisor has gone before it said what to do")
            self._early += self._decoder.feed(data)
        first = self._early.pop(0)
        if not isinstance(first, Start):
            raise ControlBroken(f"expected Start first, got {type(first).__name__}")
        return first

    def say(self, message: Message) -> None:
        """Send a message before there is an event loop."""
        self._socket.sendall(encode(message))

    def send(self, message: Message) -> None:
        """Send a message, if there is still somebody to hear it."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    async def listen(self, hear: Hear) -> None:
        """Hear every message until the supervisor ends the connection, or is no more."""
        self._loop = asyncio.get_running_loop()
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        try:
            for message in self._early:
                self._take(message, hear)
            while data := await reader.read(_READ_BYTES):
                for message in self._decoder.feed(data):
                    self._take(message, hear)
        except ConnectionError:
            _log.debug("the supervisor has gone")
        finally:
            self.gone = True
            self._writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ModelNotReady(_GONE))

    def _take(self, message: Message, hear: Hear) -> None:
        if not isinstance(message, Answer):
            hear(message)
            return
        future = self._waiting.pop(message.id, None)
        if future is not None and not future.done():
            future.set_result(message)

    async def request(self, verb: str, model: str = "", folder: str = "") -> Answer:
        """Ask the supervisor; raises Reported with the code and text of an error there."""
        return await self._ask(lambda asked: Request(asked, verb, model, folder))

    async def admit(self, model: str, version: int, claim: str, order: Json) -> Answer:
        """Have a version proved; raises Reported with why it is refused."""
        return await self._ask(lambda asked: Admit(asked, model, version, claim, order))

    def wait_for(self, asked: Coroutine[Any, Any, Answer]) -> Answer:
        """Return the answer to a question that a thread beside the event loop has."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    async def _ask(self, question: Callable[[int], Message]) -> Answer:
        if self.gone:
            raise ModelNotReady(_GONE)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        asked = next(self._ids)
        self._waiting[asked] = future
        self.send(question(asked))
        try:
            answer = await future
        finally:
            self._waiting.pop(asked, None)
        if answer.code:
            raise Reported(answer.code, answer.text)
        return answer
