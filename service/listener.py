"""The listening socket: how it is opened, and under which address it is reached."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from service.errors import ConfigurationError

BACKLOG = 2048


def listen(host: str, port: int, *, prefix: str = "") -> socket.socket:
    """Open the listening socket; raises ConfigurationError with a remedy if it cannot be had.

    ``prefix`` stands before the names of the flags in question.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}; choose another with --{prefix}host and "
            f"--{prefix}port"
        ) from error
    # Connections inherit it; small answers must not wait for the next packet.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.settimeout(0)
    return listener


def listen_unix(path: str) -> socket.socket:
    """Open a Unix socket; raises ConfigurationError if it cannot be had or is somebody's.

    What a server that is no more has left at the path is removed.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise ConfigurationError(
            f"cannot listen on {path}: {reason}; choose another with --uds"
        ) from error
    listener.settimeout(0)
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on; other files are left, so that binding fails."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def close_listener(listener: socket.socket) -> None:
    """Listen no more, and leave no Unix socket behind."""
    name = listener.getsockname()
    listener.close()
    if isinstance(name, str) and name:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()


def address_of(listener: socket.socket, *, secure: bool = False) -> str:
    """Return the URL under which the socket is reached; over a Unix socket the host is any."""
    scheme = "https" if secure else "http"
    if listener.family == socket.AF_UNIX:
        return f"{scheme}://localhost"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
