"""HTTPS with an authority of our own: versions, certificates of callers, certificates exchanged."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.errors import ConfigurationError
from service.tls import TlsFiles, server_context
from tests.support.certificates import Authority, Pair


def caller(ca: Path, pair: Pair | None = None) -> ssl.SSLContext:
    """Return what a caller uses that trusts an authority, and may show a certificate."""
    context = ssl.create_default_context(cafile=ca)
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


@asynccontextmanager
async def echoing(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Listen with a context, answer each line by itself, and yield the port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await reader.readline())
            await writer.drain()
        except (ConnectionError, ssl.SSLError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def said(port: int, context: ssl.SSLContext) -> dict[str, Any]:
    """Send a line, read it again, and return what was learned in the handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        tls = writer.get_extra_info("ssl_object")
        return {"version": tls.version(), "serial": int(tls.getpeercert()["serialNumber"], 16)}
    finally:
        writer.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return a new authority that writes to the test's folder."""
    return Authority(tmp_path)


async def test_callers_that_trust_the_authority_get_tls_13(authority: Authority) -> None:
    """The newest version that both know."""
    pair = authority.sign("server")
    async with echoing(server_context(TlsFiles(pair.cert, pair.key))) as port:
        assert (await said(port, caller(authority.cert)))["version"] == "TLSv1.3"


async def test_versions_before_tls_12_are_refused(authority: Authority) -> None:
    """A caller that knows only old ones ends in the handshake; one with 1.2 does not."""
    pair = authority.sign("server")
    async with echoing(server_context(TlsFiles(pair.cert, pair.key))) as port:
        context = caller(authority.cert)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await said(port, context))["version"] == "TLSv1.2"
    assert server_context(TlsFiles(pair.cert, pair.key)).minimum_version is ssl.TLSVersion.TLSv1_2


async def test_a_caller_without_a_certificate_is_refused_where_one_is_asked_for(
    authority: Authority, tmp_path: Path
) -> None:
    """None, or one of another authority: no byte of a request is read."""
    server, client = authority.sign("server"), authority.sign("client")
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "other").sign("stranger")
    files = TlsFiles(server.cert, server.key, authority.cert)
    async with echoing(server_context(files)) as port:
        for pair in (None, stranger):
            with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
                await said(port, caller(authority.cert, pair))
        assert (await said(port, caller(authority.cert, client)))["version"] == "TLSv1.3"


async def test_a_certificate_is_exchanged_without_a_restart(
    authority: Authority, tmp_path: Path
) -> None:
    """New connections see the new one; a damaged one, or half an exchange, changes nothing."""
    pair = authority.sign("server", serial=11)
    async with echoing(server_context(TlsFiles(pair.cert, pair.key))) as port:
        context = caller(authority.cert)
        assert (await said(port, context))["serial"] == 11
        pair.cert.write_bytes(b"damaged")
        assert (await said(port, context))["serial"] == 11
        pair.cert.unlink()
        assert (await said(port, context))["serial"] == 11
        authority.sign("server", serial=12)
        assert (await said(port, context))["serial"] == 12


def test_files_of_no_use_are_named(authority: Authority, tmp_path: Path) -> None:
    """Missing, of another kind, not belonging together, or locked, for nobody is there to ask."""
    one, two = authority.sign("one"), authority.sign("two")
    locked = authority.sign("locked", password=b"secret")
    text = tmp_path / "text"
    text.write_text("no certificate")
    for files, part in (
        (TlsFiles(tmp_path / "none", one.key), "No such file"),
        (TlsFiles(text, one.key), "not a PEM file"),
        (TlsFiles(one.cert, two.key), "do not belong together"),
        (TlsFiles(locked.cert, locked.key), "locked by a password"),
        (TlsFiles(one.cert, one.key, text), "tls_client_ca"),
        (TlsFiles(one.cert, one.key, tmp_path / "none"), "tls_client_ca"),
    ):
        with pytest.raises(ConfigurationError, match=part):
            server_context(files)
