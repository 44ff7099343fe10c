"""What keys mean, in OpenAPI's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.web.openapi import errors

SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a signed token."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def secured(operation: Mapping[str, Any], scope: str | None) -> dict[str, Any]:
    """Return an operation with what its caller must show: a key of a scope, or nothing for None."""
    if scope is None:
        return {**operation, "security": []}
    refusals = errors("401", "403")
    return {
        **operation,
        "security": [{scheme: [scope]} for scheme in SCHEMES],
        "responses": {**operation["responses"], **refusals},
    }
