"""A client for an application under test: no socket, but its whole stack and its lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp

BASE_URL = "http://server.test"
_PATIENCE = 2000


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    """Return a client that calls the application directly."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL)


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
