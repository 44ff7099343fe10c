"""Who may take which road: the one place that decides it, for every way into the server."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from service.access import ANYBODY, Identity, Scope
from service.authority import MAX_CREDENTIAL_BYTES, Authority
from service.errors import Forbidden, HostNotAllowed, ServiceError, Unauthenticated

Headers = Sequence[tuple[bytes, bytes]]

HOW = "send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"


class Access(StrEnum):
    """What a road gives access to, and so which key opens it."""

    HEALTH = "health"
    DOCS = "docs"
    METRICS = "metrics"
    READ = "read"
    PREDICT = "predict"
    ADMIN = "admin"


# Any key opens the roads of health.
SCOPE: Mapping[Access, Scope | None] = {
    Access.HEALTH: None,
    Access.DOCS: Scope.READ,
    Access.METRICS: Scope.METRICS,
    Access.READ: Scope.READ,
    Access.PREDICT: Scope.PREDICT,
    Access.ADMIN: Scope.ADMIN,
}
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
# Predictions may be large and many; they stay off the port that must answer in any case.
_ON_ADMIN_PORT = frozenset(Access) - {Access.PREDICT}
_ON_MAIN_PORT = frozenset(Access) - {Access.ADMIN}


@dataclass(frozen=True, slots=True)
class Policy:
    """What is open to everybody, under which names, and on which port admin roads are.

    An empty ``hosts`` allows every name.
    """

    public: frozenset[Access] = frozenset({Access.HEALTH})
    hosts: frozenset[str] = frozenset()
    admin_port: int | None = None


class Gate:
    """Knows callers and decides what they may do; without an authority everybody may do all."""

    def __init__(self, policy: Policy | None = None, authority: Authority | None = None) -> None:
        """Keep the rules, and who knows callers."""
        self._policy = policy or Policy()
        self._authority = authority
        # Nothing to be asked of anybody but for admin: the fast road shall not pay for it.
        rules = self._policy
        self._free = authority is None and not rules.hosts and rules.admin_port is None

    @property
    def closed(self) -> bool:
        """Whether callers must show who they are."""
        return self._authority is not None

    def is_public(self, access: Access) -> bool:
        """Whether a road of this kind needs no key."""
        return self._authority is None or access in self._policy.public

    def identify(self, headers: Headers, *, public: bool) -> Identity:
        """Return who calls; on a ``public`` road nobody has to say it.

        Raises Unauthenticated.
        """
        if self._authority is None:
            return ANYBODY
        try:
            return self._known(headers, self._authority)
        except Unauthenticated:
            if public:
                return NOBODY
            raise

    def _known(self, headers: Headers, authority: Authority) -> Identity:
        credential = credential_of(headers)
        if credential is None:
            raise Unauthenticated(f"no key: {HOW}", shown=False)
        identity = authority.identify(credential)
        if identity is None:
            # One text for all reasons: it must not tell which keys have once been good.
            raise Unauthenticated("the key or token is not known here, or expired", shown=True)
        return identity

    def authorize(
        self, identity: Identity, access: Access, headers: Headers, port: int | None
    ) -> None:
        """Let a known caller onto a road, or raise Forbidden, Unauthenticated or a 404.

        HostNotAllowed is raised where the caller names an address that is not ours; probes of
        health name whatever address they know.
        """
        hosts = self._policy.hosts
        if hosts and access is not Access.HEALTH and (name := host_of(headers)) not in hosts:
            raise HostNotAllowed(f"Host '{name[:80]}': this server does not answer to it")
        if not on_port(access, port, self._policy.admin_port):
            raise HTTPException(404)
        if self._authority is not None and access not in self._policy.public:
            if identity is NOBODY:
                raise Unauthenticated(f"no key: {HOW}", shown=False)
            needed = SCOPE[access]
            if needed is not None and needed not in identity.scopes:
                raise Forbidden(f"key '{identity.name}': scope '{needed}' is needed here")
        if access is Access.ADMIN:
            refuse_foreign(headers, closed=self.closed, hosts=hosts)

    def passes(self, access: Access, headers: Headers, port: int | None) -> Identity | None:
        """Return who calls if the road is open to them, else None; the other road says why."""
        if self._free and access is not Access.ADMIN:
            return ANYBODY
        try:
            identity = self.identify(headers, public=False)
            self.authorize(identity, access, headers, port)
        except (ServiceError, HTTPException):
            return None
        return identity


# Who calls a public road without a key.
NOBODY = Identity("", frozenset())


def on_port(access: Access, port: int | None, admin_port: int | None) -> bool:
    """Whether roads of a kind are on a port; without an admin port all are on all."""
    if admin_port is None:
        return True
    return access in (_ON_ADMIN_PORT if port == admin_port else _ON_MAIN_PORT)


def credential_of(headers: Headers) -> bytes | None:
    """Return the key or token in a request's headers, names in lower case; None if there is none.

    Triton's client can only be told a user and a password: the password is the key then.  Raises
    Unauthenticated for more than one: a proxy in front may have looked at the other.
    """
    found = b""
    for name, value in headers:
        if name in _CREDENTIALS:
            shown = value.strip() if name == b"x-api-key" else _authorization(value)
            if found and shown and shown != found:
                raise Unauthenticated("several keys: send one", shown=True)
            found = shown or found
    return found or None


def _authorization(value: bytes) -> bytes:
    """Return what an Authorization header shows; empty for schemes that are not ours."""
    scheme, _, rest = value.strip().partition(b" ")
    kind = scheme.lower()
    if kind == b"bearer":
        return rest.strip()
    if kind != b"basic" or len(rest) > 2 * MAX_CREDENTIAL_BYTES:
        return b""
    try:
        return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def host_of(headers: Headers) -> str:
    """Return the name in the Host header without its port, in lower case; "" if there is none."""
    hosts = [value for name, value in headers if name == b"host"]
    return _without_port(hosts[0].decode("latin-1")) if len(hosts) == 1 else ""


def _without_port(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    plain = name if colon and port.isdecimal() else host.strip().lower()
    return plain.strip("[]")


def refuse_foreign(headers: Headers, *, closed: bool, hosts: Collection[str]) -> None:
    """Raise Forbidden if a browser asks for a page that is not from here.

    A page of anybody can make a browser post to a server that only the browser reaches.  Programs
    send none of these headers.
    """
    seen = dict(headers)
    site, origin = seen.get(b"sec-fetch-site"), seen.get(b"origin")
    if site is None and origin is None:
        return
    if site in (b"cross-site", b"same-site"):
        raise Forbidden(f"Sec-Fetch-Site '{site.decode()}': only pages from here may do this")
    host = host_of(headers)
    if origin is not None and not _same_host(origin.decode("latin-1"), seen, hosts):
        shown = origin.decode("latin-1")[:80]
        raise Forbidden(f"Origin '{shown}': only pages from here may do this")
    # The name of a foreign page may come to mean this machine; without keys only names that
    # cannot are trusted.
    if not closed and host not in hosts and not _is_address(host):
        raise Forbidden(
            f"Host '{host[:80]}': pages may do this only by an address or allowed_hosts"
        )


def _same_host(origin: str, seen: Mapping[bytes, bytes], hosts: Collection[str]) -> bool:
    try:
        parts = urlsplit(origin.lower())
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if name in hosts:
        return True
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    ours = seen.get(b"host", b"").decode("latin-1").strip().lower()
    bracketed = f"[{name}]" if ":" in name else name
    forms = {f"{bracketed}:{port or usual}"}
    if port in (None, usual):
        forms.add(bracketed)
    return bool(name) and ours in forms


def _is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
