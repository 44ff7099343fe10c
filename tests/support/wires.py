"""A raw connection to a server over stand-ins: what is sent and received is bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from service.web.edge import Edge
from tests.support.clients import listening

PATH = "/v2/models/tiny/infer"


@dataclass(slots=True)
class Wire:
    """One connection, and the edge behind it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    edge: Edge
    port: int

    async def send(self, *messages: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(b"".join(messages))
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in rest)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, body

    async def id_of_answer(self) -> str:
        """Return the id that the next answer carries in its body."""
        return str(json.loads((await self.answer())[2]).get("id"))

    async def refusal(self) -> tuple[int, str]:
        """Return status and text of an answer after which nothing more comes."""
        status, headers, body = await self.answer()
        assert headers["content-type"] == "application/json"
        assert headers["connection"] == "close"
        assert await self.closed()
        return status, str(json.loads(body)["error"])

    async def closed(self) -> bool:
        """Wait until the other side says no more; whether it had nothing left to say."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True

    async def heard(self) -> None:
        """Return when the server has read what was sent: it answers another connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        await reader.read()
        writer.close()

    def pass_time(self, seconds: float) -> None:
        """Let the edge look at its connections as if so much time had passed."""
        now = asyncio.get_running_loop().time() + seconds
        for connection in list(self.edge.connections):
            connection.check(now)


@asynccontextmanager
async def wired(app: FastAPI) -> AsyncIterator[Wire]:
    """Yield a connection to a server of the application."""
    async with listening(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield Wire(reader, writer, app.state.edge, port)
        finally:
            writer.close()


def call(identity: str = "", *, values: int = 2, path: str = PATH, head: str = "") -> bytes:
    """Return a whole request that asks for its own numbers back."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, values], "data": [0.5] * values}
    members: dict[str, object] = {"inputs": [tensor]}
    if identity:
        members["id"] = identity
    body = json.dumps(members).encode()
    lines = f"POST {path} HTTP/1.1\r\nhost: test\r\n{head}content-length: {len(body)}\r\n\r\n"
    return lines.encode() + body
