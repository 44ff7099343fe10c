"""Clients for an application under test: its whole stack and its lifespan, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp
from uvicorn.server import ServerState

BASE_URL = "http://server.test"
_PATIENCE = 2000


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    """Return a client that calls the application directly."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL)


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[int]:
    """Listen with our protocol class, as a worker does, and yield the port; the lifespan is run."""
    protocol = app.state.edge.protocol
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]
        for connection in list(state.connections):
            connection.shutdown()


@asynccontextmanager
async def on_a_socket(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that is connected by a socket, and so takes the direct road where it can."""
    async with (
        listening(app) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Run the application's lifespan and yield a client once every model's first attempt ended."""
    async with app.router.lifespan_context(app), client_of(app) as client:
        for _ in range(_PATIENCE):
            names = (await client.get("/v1/models")).json()["models"]
            infos = [(await client.get(f"/v1/models/{name}/info")).json() for name in names]
            if all(info["state"] in ("READY", "FAILED") for info in infos):
                break
            # Models load on threads, and nothing but their state tells when they have.
            await asyncio.sleep(0.002)
        yield client
