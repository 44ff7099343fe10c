"""The edge: what all connections of a process share, and how they are watched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from service.metrics import Metrics
from service.web.connection import Connection
from service.web.direct import DirectRoad
from service.web.limits import ByteBudget, EdgeLimits
from service.web.visit import Visits

_SWEEP_SECONDS = 1.0


class Edge:
    """What all connections of a process share: limits, the bytes held, and the direct road."""

    def __init__(
        self, direct: DirectRoad, *, limits: EdgeLimits, metrics: Metrics, visits: Visits
    ) -> None:
        """Begin without a connection."""
        self.direct = direct
        self.limits = limits
        self.metrics = metrics
        self.visits = visits
        self.budget = ByteBudget(limits.bytes_in_flight)
        self.connections: set[Connection] = set()
        self._sweeping = False

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        on_end: Callable[[], None] | None = None,
    ) -> Connection:
        """Return the protocol of a new connection, as uvicorn asks for one.

        ``on_end`` is called when the connection has ended, if it ever began.
        """
        return Connection(self, config, server_state, app_state, _loop, on_end=on_end)

    def opened(self, connection: Connection) -> bool:
        """Take a connection in, and say whether there is room for it."""
        self.connections.add(connection)
        if not self._sweeping:
            self._sweeping = True
            connection.loop.call_later(_SWEEP_SECONDS, self._sweep, connection.loop)
        return len(self.connections) <= self.limits.connections

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at every connection once a second; where there is none, nothing wakes up."""
        now = time.monotonic()
        for connection in list(self.connections):
            connection.check(now)
        self._sweeping = bool(self.connections)
        if self._sweeping:
            loop.call_later(_SWEEP_SECONDS, self._sweep, loop)
