"""Settings of access: keys, tokens, TLS, the admin port, the audit log."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from service.errors import ConfigurationError

Names = Annotated[tuple[str, ...], NoDecode]

# What may be open to everybody while keys are configured.
PUBLIC = ("health", "docs", "metrics", "read")
# With public keys only: where a secret is shared, whoever checks a token can also sign one.
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip


class AccessSettings(BaseSettings):
    """Who may do what, and what is written down about it."""

    allow_open: bool = Field(
        default=False, description="Listen on more than this machine without any access control."
    )
    keys: str = Field("", description="API keys as TOML text: hashes, names and scopes.")
    keys_file: Path | None = Field(None, description="A file of API keys, read anew as it changes.")
    jwks_file: Path | None = Field(
        None, description="A file of public keys (JWK set) that sign tokens, read as it changes."
    )
    jwt_audience: str = Field("", description="The audience that a token must name.")
    jwt_issuer: str = Field("", description="The issuer that a token must name.")
    jwt_algorithms: Names = Field(
        ("RS256", "ES256", "EdDSA"), description="The algorithms by which a token may be signed."
    )
    jwt_scope_claim: str = Field("scope", description="The claim that holds a token's scopes.")
    jwt_scope_prefix: str = Field("", description="What stands before our scopes in the claim.")
    public: Names = Field(
        ("health",), description="What needs no key: health, docs, metrics or read; none for none."
    )
    allowed_hosts: Names = Field(
        (), description="The names that callers may use in the Host header; empty for any."
    )
    tls_cert: Path | None = Field(None, description="The certificate chain for HTTPS, as PEM.")
    tls_key: Path | None = Field(None, description="The certificate's private key, as PEM.")
    tls_client_ca: Path | None = Field(
        None, description="Authorities, as PEM; callers must show a certificate of theirs."
    )
    admin_port: int | None = Field(
        None, ge=0, le=65_535, description="A port of its own for admin, metrics and reading."
    )
    admin_host: str = Field("127.0.0.1", min_length=1, description="The address of the admin port.")
    audit_log: Path | None = Field(
        None, description="The file to which admin actions are appended, chained by hashes."
    )
    audit_predictions: bool = Field(
        default=False, description="Note predictions in the audit log, too, by hashes only."
    )
    audit_max_bytes: int = Field(
        0, ge=0, description="The size at which the audit log is rotated; 0 for never."
    )

    @field_validator("jwt_algorithms", "public", "allowed_hosts", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        """Read "a,b" as a flag or a variable carries it; a flag may be given repeatedly."""
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return value
        return tuple(word.strip() for text in texts for word in text.split(",") if word.strip())

    @field_validator(
        "keys_file", "jwks_file", "tls_cert", "tls_key", "tls_client_ca", "audit_log",
        "admin_port", mode="before",
    )  # fmt: skip
    @classmethod
    def _nothing_from_text(cls, value: object) -> object:
        """Take an empty variable for one that is not set."""
        return None if value == "" else value

    @field_validator("jwt_algorithms")
    @classmethod
    def _with_public_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= set(ALGORITHMS):
            raise ValueError(f"expected names among {', '.join(ALGORITHMS)}")
        return value

    @field_validator("public")
    @classmethod
    def _what_may_be_public(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value == ("none",):
            return ()
        if not set(value) <= set(PUBLIC):
            raise ValueError(f"expected none, or names among {', '.join(PUBLIC)}")
        return value

    @model_validator(mode="after")
    def _tokens_are_meant_for_us(self) -> Self:
        """Refuse a set of keys that would let in what its issuer made for somebody else."""
        given = (self.jwt_audience, self.jwt_issuer)
        if self.jwks_file is not None and not all(given):
            raise ConfigurationError("jwks_file: needs jwt_audience and jwt_issuer, too")
        if self.jwks_file is None and any(given):
            raise ConfigurationError("jwt_audience, jwt_issuer: need jwks_file, the signing keys")
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigurationError("tls_cert, tls_key: give both, or none")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigurationError("tls_client_ca: needs tls_cert and tls_key")
        return self

    @model_validator(mode="after")
    def _audited_somewhere(self) -> Self:
        if self.audit_predictions and self.audit_log is None:
            raise ConfigurationError("audit_predictions: needs audit_log, the file to write to")
        return self

    @property
    def has_keys(self) -> bool:
        """Whether callers must show who they are."""
        return bool(self.keys) or self.keys_file is not None or self.jwks_file is not None

    def refuse_open(self, host: str) -> None:
        """Raise ConfigurationError if an address would let everybody in without saying so."""
        if self.allow_open or self.has_keys or self.tls_client_ca or is_loopback(host):
            return
        raise ConfigurationError(
            f"host {host}: everybody who reaches this machine could use the server; configure "
            "keys (--keys-file), add --allow-open (or ONNXPORT_ALLOW_OPEN=1) if that is meant, or "
            "listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; other names than localhost are not trusted."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
