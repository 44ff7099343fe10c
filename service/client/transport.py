"""What both clients share of HTTP: options, addresses, timeouts, and httpx's errors as ours."""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypedDict

import httpx

from service import __version__
from service.client.errors import (
    BadAnswer,
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    InvalidInput,
)
from service.client.replies import Reply


class OptionKeys(TypedDict, total=False):
    """The keyword arguments of both clients, see `Client`."""

    timeout: float
    connect_timeout: float
    read_timeout: float | None
    retries: int
    api_key: str | None
    headers: Mapping[str, str]
    compress: bool
    max_connections: int
    verify: ssl.SSLContext | bool
    trust_env: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The same with their defaults, checked."""

    timeout: float = 30.0
    connect_timeout: float = 5.0
    read_timeout: float | None = None
    retries: int = 2
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    compress: bool = False
    max_connections: int = 100
    verify: ssl.SSLContext | bool = True
    trust_env: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is sent."""
        for name in ("timeout", "connect_timeout", "read_timeout"):
            value = getattr(self, name)
            if value is not None:
                check_seconds(name, value)
        for name, least in (("retries", 0), ("max_connections", 1)):
            if getattr(self, name) < least:
                raise InvalidInput(f"{name}: {getattr(self, name)}, at least {least} is needed")
        key = self.api_key
        if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
            # The text must not show the key; error texts end in logs.
            raise InvalidInput("api_key: empty, or with characters that no header can carry")


def check_seconds(name: str, value: float) -> None:
    """Raise InvalidInput unless a timeout is above 0; ``math.inf`` is no limit."""
    if not value > 0:
        raise InvalidInput(f"{name}: {value}, seconds above 0 are needed (math.inf for no limit)")


def server_url(text: str) -> httpx.URL:
    """Return a server's address, a path prefix included; raises InvalidInput with the remedy."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"base_url: {text!r}: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInput(f"base_url: {text!r}, expected such as http://127.0.0.1:8080")
    if url.query or url.fragment:
        raise InvalidInput(f"base_url: {text!r}: no query and no fragment can stand in it")
    return url


def shown_url(url: httpx.URL) -> str:
    """Return the address without a password that may stand in it."""
    return str(url.copy_with(username=None, password=None)).rstrip("/")


def httpx_options(url: httpx.URL, options: Options) -> dict[str, Any]:
    """Return the arguments for httpx's clients."""
    headers = {
        "User-Agent": f"onnxport-client/{__version__}",
        "Accept": "*/*",
        # Compressing costs more time than a fast network; it is done where it is asked for.
        "Accept-Encoding": "gzip" if options.compress else "identity",
        **options.headers,
    }
    if options.api_key is not None:
        headers["Authorization"] = f"Bearer {options.api_key}"
    return {
        "base_url": url,
        "headers": headers,
        "verify": options.verify,
        "trust_env": options.trust_env,
        "follow_redirects": False,
        "limits": httpx.Limits(
            max_connections=options.max_connections,
            max_keepalive_connections=options.max_connections,
        ),
    }


def phase_timeouts(options: Options, remaining: float) -> httpx.Timeout:
    """Return the longest single wait in each phase of one attempt."""
    read = remaining if options.read_timeout is None else min(options.read_timeout, remaining)
    return httpx.Timeout(
        connect=_or_none(min(options.connect_timeout, remaining)),
        read=_or_none(read),
        write=_or_none(read),
        pool=_or_none(remaining),
    )


def _or_none(seconds: float) -> float | None:
    return None if math.isinf(seconds) else max(seconds, 0.001)


@contextmanager
def our_errors(server: str) -> Iterator[None]:
    """Turn httpx's errors into ours, by what they say of the request's fate."""
    try:
        yield
    except (httpx.ConnectTimeout, httpx.ConnectError, httpx.PoolTimeout, httpx.ProxyError) as error:
        raise ConnectionFailed(f"{server}: no connection: {_reason(error)}") from error
    except (httpx.TimeoutException, TimeoutError) as error:
        raise DeadlineExceeded(f"{server}: no answer in time") from error
    except httpx.DecodingError as error:
        raise BadAnswer(f"{server}: {_reason(error)}") from error
    except httpx.LocalProtocolError as error:
        raise InvalidInput(f"the request has no form in HTTP: {_reason(error)}") from error
    except httpx.TransportError as error:
        raise ConnectionLost(f"{server}: the connection broke: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return the system's own words where it was the system that failed, else the error's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            # Names that cannot be resolved have numbers of their own, below 0.
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    """Return an answer whose body has been read."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, body)


class Counts:
    """What a client has done; threads share it."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = Lock()
        self._counts = {"requests": 0, "retries": 0, "errors": 0}

    def add(self, name: str) -> None:
        """Count one."""
        with self._lock:
            self._counts[name] += 1

    def __str__(self) -> str:
        """Show all."""
        return " ".join(f"{name}={count}" for name, count in self._counts.items())
