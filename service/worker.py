"""One serving process: a listening socket, the application, and a clean end."""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn, cast

import orjson
import typer
import uvicorn

from service import __version__, logs
from service.app import control_of, create_app
from service.bundle import read_bundle
from service.contract import ImagePipeline, SequencePipeline, TextPipeline
from service.errors import BundleError, ConfigurationError
from service.reloader import at_start
from service.repository import Found, named, scan
from service.settings import Settings
from service.tls import TlsFiles, server_context
from service.web.edge import EdgeProtocol

_log = logging.getLogger("onnxport.worker")
_SHOWN = 4
_A_TEXT = "Lunch at noon? Bring the slides."


def serve(settings: Settings, *, ignored: Sequence[str] = ()) -> None:
    """Serve until SIGINT or SIGTERM, then let running requests end within the grace time.

    ``ignored`` are flags that were taken without having a meaning here.  Raises ConfigurationError
    if there is nothing to serve or the address cannot be had.
    """
    logs.configure(level=settings.log_level, style=settings.log_format)
    if not settings.repository.exists():
        raise ConfigurationError(
            f"{settings.repository}: no such file or folder; train a model with onnxport-train "
            "cnn, or name a repository, a bundle or an .onnx file"
        )
    found = named(scan(settings.repository), settings.model_name)
    tls = tls_of(settings)
    with ExitStack() as stack:
        listeners = [stack.enter_context(one) for one in listen_all(settings)]
        config = _config(with_ports(settings, listeners), found, tls)
        if ignored:
            _log.info("flags of KServe without a meaning here: %s", ", ".join(ignored))
        if settings.model_name and found and all(one.name != settings.model_name for one in found):
            _log.warning("no model is called %s: several keep their names", settings.model_name)
        main, *others = (address_of(one, secure=tls is not None) for one in listeners)
        announce(settings, at_start(found, control_of(settings)), main)
        for address in others:
            _log.info("listening for admin", extra={"fields": {"address": address}})
        # uvicorn raises the signal that ended it once more; the end was asked for, so it is no
        # failure.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        uvicorn.Server(config).run(sockets=listeners)


def _config(
    settings: Settings, found: Sequence[Found], tls: ssl.SSLContext | None
) -> uvicorn.Config:
    app = create_app(settings, found)
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(EdgeProtocol, app.state.direct)),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        root_path=settings.root_path,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=max(1, round(settings.keep_alive)),
        timeout_graceful_shutdown=max(1, round(settings.grace)),
    )
    config.load()
    # Its own options say too little: the least version, and certificates that are exchanged.
    config.ssl = tls
    return config


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """Return what connections are wrapped in, None for plain HTTP; raises ConfigurationError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return server_context(TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca))


def listen_all(settings: Settings) -> list[socket.socket]:
    """Open the main socket and, where one is wanted, the one for admin, in this order."""
    main = listen(settings.host, settings.port)
    if settings.admin_port is None:
        return [main]
    try:
        return [main, listen(settings.admin_host, settings.admin_port, prefix="admin-")]
    except ConfigurationError:
        main.close()
        raise


def with_ports(settings: Settings, listeners: Sequence[socket.socket]) -> Settings:
    """Return the settings with the ports that were really taken: by them roads are told apart."""
    names = ("port", "admin_port")
    taken = {name: one.getsockname()[1] for name, one in zip(names, listeners, strict=False)}
    return settings.model_copy(update=taken)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise SystemExit(0)


def listen(host: str, port: int, *, prefix: str = "") -> socket.socket:
    """Open the listening socket; raises ConfigurationError with a remedy if it cannot be had.

    ``prefix`` stands before the names of the flags in question.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}; choose another with --{prefix}host and "
            f"--{prefix}port"
        ) from error
    listener.settimeout(0)
    return listener


def address_of(listener: socket.socket, *, secure: bool = False) -> str:
    """Return the URL under which the socket is reached."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def announce(settings: Settings, found: Sequence[Found], address: str) -> None:
    """Say where the server listens, what it serves and what to try next, on standard error."""
    # Bundles first: their contracts say what a call looks like.
    newest = {one.name: one for one in found}.values()
    first = sorted(newest, key=lambda one: not one.is_bundle)[:_SHOWN]
    calls = [example_call(one, address) for one in first]
    calls += [f"curl {address}/v1/models/{one.name}/info" for one in first[:1]]
    calls = [_with_key(call, settings) for call in calls]
    if not logs.is_text(settings.log_format, sys.stderr):
        fields = {
            "address": address,
            "repository": str(settings.repository),
            "platform": settings.platform,
            "models": [one.name for one in newest],
            "try": calls,
        }
        _log.info("listening", extra={"fields": fields})
        return
    names = ", ".join(one.name for one in newest)
    bold = typer.style(address, bold=True)
    typer.echo(f"onnxport {__version__} on {bold}, models from {settings.repository}", err=True)
    if not found:
        typer.echo(_how_to_fill(settings, address), err=True)
        return
    typer.echo(f"Models: {logs.printable(names)}\n\nTry next:", err=True)
    for call in calls:
        typer.echo(f"  {typer.style(logs.printable(call), fg='green')}", err=True)
    typer.echo(f"  {address}/docs\n\nCtrl-C ends it.\n", err=True)


def _how_to_fill(settings: Settings, address: str) -> str:
    if settings.model_control == "explicit":
        load = _with_key(f"curl -X POST {address}/v2/repository/models/NAME/load", settings)
        return f"No model is loaded yet; load one with: {load}"
    return "It holds no model yet; train one with: onnxport-train cnn"


def _with_key(call: str, settings: Settings) -> str:
    """Return a curl line with a place for the key, where one is needed."""
    if not settings.has_keys:
        return call
    return call.replace("curl ", 'curl -H "X-API-Key: $KEY" ', 1)


def example_call(found: Found, address: str) -> str:
    """Return a curl line that works as it stands for one model, as far as its contract tells."""
    predict = f"{address}/v1/models/{found.name}:predict"
    metadata = f"curl {address}/v2/models/{found.name}"
    if found.problem or not found.is_bundle:
        return metadata
    try:
        pipeline = read_bundle(found.path).manifest.pipeline
    except BundleError:
        return metadata
    if isinstance(pipeline, ImagePipeline):
        file = _example_picture()
        return f"curl -H 'Content-Type: image/png' --data-binary @{file} {predict}"
    if isinstance(pipeline, TextPipeline):
        return f"curl -d {_instances(_A_TEXT)} {predict}"
    if isinstance(pipeline, SequencePipeline):
        step = [float(f"{mean:.3g}") for mean in pipeline.mean]
        return f"curl -d {_instances([step, step])} {predict}"
    return metadata


def _instances(instance: object) -> str:
    return shlex.quote(orjson.dumps({"instances": [instance]}).decode())


def _example_picture() -> str:
    """Return one of the pictures beside a checkout's README, or a name to replace."""
    pictures = sorted(Path("examples").glob("*.png"))
    return shlex.quote(str(pictures[0])) if pictures else "your-picture.png"
