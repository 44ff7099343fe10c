"""Ask a running server how it is, for container engines and scripts that have no curl."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

import httpx

READY_PATH: Final = "/v2/health/ready"
LIVE_PATH: Final = "/v2/health/live"
_SHOWN_BYTES: Final = 200


@dataclass(frozen=True)
class Health:
    """What a server said of itself; ``reason`` is one line for people."""

    good: bool
    reason: str


def health_url(host: str, port: int, *, live: bool = False) -> str:
    """Return the URL at which a server that listens on ``host`` is asked from the same machine.

    An address that stands for all of them, such as 0.0.0.0, is asked on the loopback.
    The root path is left out: it is what a proxy cuts off, and none stands between.
    """
    path = LIVE_PATH if live else READY_PATH
    return f"http://{_reachable(host)}:{port}{path}"


def _reachable(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"


def ask_health(url: str, timeout: float, *, uds: str = "") -> Health:
    """Ask once; no answer within ``timeout`` seconds is bad health, not an error.

    Where ``uds`` is the path of a Unix socket, it is asked instead of the URL's host.
    """
    # A proxy from the environment must not stand between a server and its own health.
    road = httpx.HTTPTransport(uds=uds or None)
    try:
        with httpx.Client(transport=road, timeout=timeout, trust_env=False) as client:
            answer = client.get(url)
    except httpx.TimeoutException:
        return Health(good=False, reason=f"{url}: no answer within {timeout:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Health(good=False, reason=f"{url}: {error}")
    text = answer.content[:_SHOWN_BYTES].decode("utf-8", "replace")
    return Health(good=answer.status_code == 200, reason=f"{url}: {answer.status_code} {text}")
