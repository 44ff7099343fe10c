"""Both clients under one name, so that every behaviour is asked of both."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import httpx
import pytest

from service.client import AsyncClient, Client
from tests.support.remote import ScriptedServer

URL = "http://server.test"


class Ask(Protocol):
    """Does something with a client of a scripted server."""

    def __call__(
        self,
        server: ScriptedServer,
        do: Callable[[Any], Any],
        base_url: str = URL,
        **options: Any,
    ) -> Awaitable[Any]:
        """Return what ``do`` returns, awaited where the client is asynchronous."""
        ...


async def _ask_sync(
    server: ScriptedServer, do: Callable[[Any], Any], base_url: str = URL, **options: Any
) -> Any:
    with Client(base_url, transport=httpx.MockTransport(server), **options) as client:
        return do(client)


async def _ask_async(
    server: ScriptedServer, do: Callable[[Any], Any], base_url: str = URL, **options: Any
) -> Any:
    transport = httpx.MockTransport(server)
    async with AsyncClient(base_url, transport=transport, **options) as client:
        answer = do(client)
        return await answer if inspect.isawaitable(answer) else answer


@pytest.fixture(params=[_ask_sync, _ask_async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Return a way to use one of both clients."""
    chosen: Ask = request.param
    return chosen
