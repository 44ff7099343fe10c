"""The clients over real sockets: connections, proxies, and answers that come too slowly."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest

from service.client import AsyncClient, Client, ConnectionFailed, ConnectionLost, DeadlineExceeded
from tests.support.remote import answering

BODY = b'{"models": ["a"]}'


def plain(handler: BaseHTTPRequestHandler) -> None:
    """Answer with a list of models."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(BODY)))
    handler.end_headers()
    handler.wfile.write(BODY)


async def test_connections_are_kept() -> None:
    """Calls one after the other share one connection, in both clients."""
    with answering(plain) as remote:
        with Client(remote.address) as client:
            assert [client.models() for _ in range(3)] == [["a"]] * 3
        async with AsyncClient(remote.address) as other:
            assert [await other.models() for _ in range(3)] == [["a"]] * 3
        assert len(remote.connections) == 2


def test_proxies_of_the_environment_matter_only_if_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model server is near; a proxy is a decision."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("HTTP_PROXY", nobody)
    monkeypatch.setenv("http_proxy", nobody)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(plain) as remote:
        with Client(remote.address) as client:
            assert client.models() == ["a"]
        with (
            Client(remote.address, trust_env=True, retries=0) as client,
            pytest.raises(ConnectionFailed),
        ):
            client.models()


async def test_nobody_there() -> None:
    """A closed port is a failed connection, and a server that is not live."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Client(address, retries=0) as client:
        with pytest.raises(ConnectionFailed, match="refused"):
            client.models()
        assert not client.live()
    async with AsyncClient(address, retries=0) as other:
        with pytest.raises(ConnectionFailed, match="refused"):
            await other.models()


async def test_an_answer_that_trickles_ends_at_the_deadline() -> None:
    """Every byte comes in time, all of them together do not."""
    ended = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        # The whole answer takes four times the deadline, no wait a quarter of it.
        for byte in BODY:
            ended.wait(0.05)
            with suppress(OSError):
                handler.wfile.write(bytes([byte]))

    with answering(trickle) as remote:
        with Client(remote.address, timeout=0.2) as client, pytest.raises(DeadlineExceeded):
            client.models()
        async with AsyncClient(remote.address, timeout=0.2) as other:
            with pytest.raises(DeadlineExceeded):
                await other.models()
        ended.set()


async def test_a_server_that_hangs_up_in_the_middle() -> None:
    """Half an answer is a lost connection, after as many attempts as allowed."""

    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(BODY)
        handler.close_connection = True

    with answering(half) as remote:
        with Client(remote.address, retries=1) as client, pytest.raises(ConnectionLost):
            client.models()
        async with AsyncClient(remote.address, retries=1) as other:
            with pytest.raises(ConnectionLost):
                await other.models()
        assert len(remote.connections) == 4
