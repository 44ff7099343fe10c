"""The words of OpenAPI that every operation is written with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ERRORS: Mapping[str, str] = {
    "400": "The request is wrong; the text names the field and the value seen.",
    "401": "No key or token was sent, or one that does not count.",
    "403": "The key lacks the scope that is needed here.",
    "404": "No such model or version.",
    "413": "The body, a tensor or a picture is over its limit.",
    "415": "The body has an encoding that the server does not undo.",
    "501": "The protocol knows this feature, this server does not have it.",
    "503": "The model is loading, has failed, or its queue is full; Retry-After advises.",
    "504": "The deadline passed before the answer was there.",
}


def schema(name: str) -> dict[str, Any]:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_content(what: Mapping[str, Any], **examples: object) -> dict[str, Any]:
    """Return a body of JSON with a schema and named examples."""
    content: dict[str, Any] = {"schema": dict(what)}
    if examples:
        content["examples"] = {key: {"value": value} for key, value in examples.items()}
    return {"application/json": content}


def errors(*statuses: str) -> dict[str, Any]:
    """Return the answers of these statuses, all in the one shape of an error."""
    return {
        status: {"description": _ERRORS[status], "content": json_content(schema("Error"))}
        for status in statuses
    }
