"""From settings to what guards the server: who is known, what is open, what is written down."""

# ruff: noqa: PLC0415 - PyJWT comes with an extra

from __future__ import annotations

from pathlib import Path

from service.audit import AuditLog
from service.authority import Authority, FixedKeys, KeyFile, Source
from service.errors import AuditUnavailable, ConfigurationError
from service.keys import parse_keys
from service.settings import Settings
from service.web.auditor import Auditor
from service.web.security import Access, Gate, Policy


def gate_of(settings: Settings, auditor: Auditor) -> Gate:
    """Return the gate of these settings; raises ConfigurationError for keys of no use."""
    policy = Policy(
        public=frozenset(Access(name) for name in settings.public),
        hosts=frozenset(name.lower().strip("[]") for name in settings.allowed_hosts),
        admin_port=settings.admin_port,
    )
    return Gate(policy, Authority(_sources(settings, auditor)) if settings.has_keys else None)


def auditor_of(settings: Settings) -> Auditor:
    """Return what writes the audit log, or what writes nothing.

    Raises ConfigurationError if the file cannot be written.
    """
    if settings.audit_log is None:
        return Auditor()
    log = AuditLog(settings.audit_log, max_bytes=settings.audit_max_bytes)
    try:
        log.prepare()
    except AuditUnavailable as error:
        raise ConfigurationError(f"audit_log: {error}") from error
    return Auditor(log, predictions=settings.audit_predictions)


def _sources(settings: Settings, auditor: Auditor) -> list[Source]:
    sources: list[Source] = []
    if settings.keys:
        sources.append(FixedKeys(parse_keys(settings.keys.encode(), "keys")))
    if settings.keys_file is not None:
        sources.append(KeyFile(settings.keys_file, auditor.keys_changed))
    if settings.jwks_file is not None:
        sources.append(_tokens(settings, settings.jwks_file))
    return sources


def _tokens(settings: Settings, path: Path) -> Source:
    try:
        from service.jwks import TokenFile, TokenRules
    except ImportError as error:
        raise ConfigurationError(
            f"jwks_file: needs {error.name}; install it with: pip install 'onnxport[jwt]'"
        ) from error
    rules = TokenRules(
        settings.jwt_audience,
        settings.jwt_issuer,
        settings.jwt_algorithms,
        scope_claim=settings.jwt_scope_claim,
        scope_prefix=settings.jwt_scope_prefix,
    )
    return TokenFile(path, rules)
