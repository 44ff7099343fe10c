"""Ask a running server how it is, for container engines and scripts that have no curl."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from service.errors import ConfigurationError

READY_PATH: Final = "/v2/health/ready"
LIVE_PATH: Final = "/v2/health/live"
_SHOWN_BYTES: Final = 200


@dataclass(frozen=True)
class Health:
    """What a server said of itself; ``reason`` is one line for people."""

    good: bool
    reason: str


def health_url(host: str, port: int, *, live: bool = False, tls: bool = False) -> str:
    """Return the URL at which a server that listens on ``host`` is asked from the same machine.

    An address that stands for all of them, such as 0.0.0.0, is asked on the loopback.
    The root path is left out: it is what a proxy cuts off, and none stands between.
    """
    path = LIVE_PATH if live else READY_PATH
    return f"http{'s' if tls else ''}://{_reachable(host)}:{port}{path}"


def _reachable(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"


def own_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Return what asks a server of this machine over HTTPS: it must show this very certificate.

    Its name may be any, since it is asked by its address; it is also shown, for a server that
    wants a caller's certificate.  Raises ConfigurationError if a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The certificate is trusted itself, whoever has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cert)
        context.load_cert_chain(cert, key)
    except OSError as error:
        raise ConfigurationError(f"{cert}, {key}: {error}") from error
    return context


def ask_health(
    url: str, timeout: float, *, uds: str = "", tls: ssl.SSLContext | None = None
) -> Health:
    """Ask once; no answer within ``timeout`` seconds is bad health, not an error.

    Where ``uds`` is the path of a Unix socket, it is asked instead of the URL's host; ``tls`` is
    how an https URL is asked, by default with the authorities that everybody trusts.
    """
    # A proxy from the environment must not stand between a server and its own health.
    road = httpx.HTTPTransport(uds=uds or None, verify=tls or True)
    try:
        with httpx.Client(transport=road, timeout=timeout, trust_env=False) as client:
            answer = client.get(url)
    except httpx.TimeoutException:
        return Health(good=False, reason=f"{url}: no answer within {timeout:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Health(good=False, reason=f"{url}: {error}")
    text = answer.content[:_SHOWN_BYTES].decode("utf-8", "replace")
    return Health(good=answer.status_code == 200, reason=f"{url}: {answer.status_code} {text}")
