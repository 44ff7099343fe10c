"""HTTPS: from files to what a connection is wrapped in, with certificates that may be exchanged."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from service.errors import ConfigurationError

_log = logging.getLogger("onnxport.tls")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the chain, its private key, and who signs the certificates of callers."""

    cert: Path
    key: Path
    client_ca: Path | None = None


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context of all connections: TLS 1.2 or newer, certificates read as they change.

    With ``client_ca`` a caller without a certificate of these authorities ends in the handshake.
    Raises ConfigurationError that names the file.
    """
    context = _context(files)
    current = _Current(files, context)

    def renew(connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        # Called in every handshake; the certificate is taken from the context set here.
        del name, first
        newest = current.context()
        if newest is not context:
            connection.context = newest

    context.sni_callback = renew
    return context


class _Current:
    """The newest context whose files made sense."""

    def __init__(self, files: TlsFiles, context: ssl.SSLContext) -> None:
        self._files = files
        self._context = context
        self._seen = _signature(files)

    def context(self) -> ssl.SSLContext:
        try:
            seen = _signature(self._files)
        except OSError as error:
            # Half an exchange; it is looked at again with the next connection.
            _log.debug("%s", error)
            return self._context
        if seen != self._seen:
            self._seen = seen
            self._read_again()
        return self._context

    def _read_again(self) -> None:
        try:
            self._context = _context(self._files)
        except ConfigurationError as error:
            _log.error("the certificate read before still counts: %s", error)
        else:
            _log.info("%s: has changed and was read again", self._files.cert)


def _signature(files: TlsFiles) -> tuple[int, ...]:
    abouts = [path.stat() for path in (files.cert, files.key)]
    return tuple(n for about in abouts for n in (about.st_mtime_ns, about.st_size, about.st_ino))


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"tls_cert {files.cert}, tls_key {files.key}: {_reason(error)}"
        ) from error
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"tls_client_ca {files.client_ca}: {_reason(error)}"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    """Refuse a locked key, for which the library would ask at the terminal."""
    raise ConfigurationError("tls_key: is locked by a password; unlock it, nobody is here to ask")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not a PEM file of this kind, or they do not belong together ({error.reason})"
    return error.strerror or str(error)
